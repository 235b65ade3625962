"""One action on all jobs that a filter matches: the count first, then in bites."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from flask import abort, g, request
from werkzeug.datastructures import MultiDict

from ..admin.bulk import BITE as BITE_JOBS
from ..admin.bulk import FLAGS, STATUSES, Action, change_some
from ..engines.base import LOOK, Engine, JobQuery
from ..errors import InvalidTransition, JobNotFound
from ..jobs.job import JobRecord
from ..state import AppRegistry
from .actions import record_action
from .filters import Filters
from .forms import page

FURTHER = 50 * LOOK
"""Jobs that are looked at for one answer."""
BITE = 1.0
"""Seconds after which the page comes back with what is done so far."""


def possible(engine: Engine, filters: Filters) -> list[Action]:
    """The actions that all jobs of this filter can take."""
    return [
        action
        for action, statuses in STATUSES.items()
        if filters.status in statuses and getattr(engine.flags, FLAGS[action])
    ]


class Bulk:
    """The handlers of `bulk`."""

    def __init__(self, offload: AppRegistry) -> None:
        self._offload = offload

    def ask(self) -> str:
        """How many jobs would be changed, and the button."""
        if g.offload_dashboard_access != "full":
            abort(403)
        action, filters = self._chosen(request.args)
        count, is_partial = self._offload.engine.matching(filters.query(), FURTHER)
        return page(
            "bulk",
            action=action,
            filters=filters.chosen(),
            count=count,
            is_partial=is_partial,
            total=count,
            changed=0,
            after="",
        )

    def act(self) -> str:
        """A bite: change jobs for a second; the answer says what is left. At most a hundred are
        changed in one transaction, so that no enqueue waits for all of them.

        The bites go from the newest job to the oldest, so that none is met twice, also when it
        fails again at once.
        """
        action, filters = self._chosen(request.form)
        query = filters.query(limit=BITE_JOBS, after=request.form.get("after") or None)
        ids, changed, after = self._bite(action, query)
        if ids:
            record_action(action, ids)
        return page(
            "bulk",
            action=action,
            filters=filters.chosen(),
            count=None,
            total=_number(request.form.get("total")),
            changed=_number(request.form.get("changed")) + changed,
            after=after,
        )

    def _bite(self, action: Action, query: JobQuery) -> tuple[list[str], int, str | None]:
        """The ids of the jobs that were met, how many were changed (others have moved on
        meanwhile), and where the next bite begins."""
        engine, ids, changed = self._offload.engine, list[str](), 0
        until = time.monotonic() + BITE
        while True:
            found = engine.page(query, FURTHER)
            some = [record.id for record in found.jobs]
            if action == "cancel":
                changed += self._cancel(found.jobs)
            else:
                changed += change_some(engine, action, some)
            ids += some
            if found.next is None or time.monotonic() > until:
                return ids, changed, found.next
            query = msgspec.structs.replace(query, after=found.next)

    def _cancel(self, records: Sequence[JobRecord]) -> int:
        """One by one, as each sends its signal."""
        state, count = self._offload.current_state(), 0
        for record in records:
            with suppress(InvalidTransition, JobNotFound):
                state.job(record).cancel()
                count += 1
        return count

    def _chosen(self, values: MultiDict[str, str]) -> tuple[Action, Filters]:
        wanted, filters = values.get("action", ""), Filters.of(values)
        for action in possible(self._offload.engine, filters):
            if action == wanted:
                return action, filters
        abort(400)


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 16 else 0
