"""The filters of the list of jobs, between an address's query and a JobQuery."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from ..engines.base import JobQuery
from ..jobs.job import JobStatus

PAGE = 25
TEXTS = ("task", "queue", "owner", "error", "text")
WITHIN = {"15m": 900.0, "1h": 3600.0, "6h": 21_600.0, "24h": 86_400.0, "7d": 604_800.0}
"""How long ago a job was enqueued, in seconds."""
MOST = 500
"""Characters of one filter."""


class Filters(msgspec.Struct, frozen=True):
    """What was chosen; empty texts mean any. within, before: keys of WITHIN: enqueued in the last
    hour, or longer ago than that."""

    status: str = ""
    task: str = ""
    queue: str = ""
    owner: str = ""
    error: str = ""
    text: str = ""
    within: str = ""
    before: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Filters:
        """From an address's query or a form; what can't be meant is left out."""
        found = {name: values.get(name, "")[:MOST] for name in TEXTS}
        with contextlib.suppress(ValueError):
            found["status"] = str(JobStatus(values.get("status", "").upper()))
        for name in ("within", "before"):
            found[name] = values.get(name, "") if values.get(name, "") in WITHIN else ""
        return cls(**found)

    def chosen(self) -> dict[str, str]:
        """Those that narrow the list, as parameters of an address."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value}

    def query(self, **more: Any) -> JobQuery:
        """The jobs that are meant."""
        now = time.time()
        return JobQuery(
            status=JobStatus(self.status) if self.status else None,
            task=self.task or None,
            queue_name=self.queue or None,
            owner=self.owner or None,
            error=self.error or None,
            text=self.text or None,
            since=now - WITHIN[self.within] if self.within else None,
            until=now - WITHIN[self.before] if self.before else None,
            **more,
        )
