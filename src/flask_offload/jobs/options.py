"""What belongs to one job in place of its task, and the request that enqueued it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec


class JobOptions(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Options of one job, as `using()` or the app's configuration set them; None: the task's.
    Durations are seconds.

    keep: by the status with which it ends. expires: from the enqueue; a job that has not started by
    then is discarded.
    """

    timeout: float | None = None
    max_attempts: int | None = None
    keep: Mapping[str, float] | None = None
    expires: float | None = None

    def keep_for(self, status: str) -> float | None:
        """Seconds that a job with this final status is kept; None: as its task has it."""
        return None if self.keep is None else self.keep.get(status)


class EnqueuedBy(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The request in which a job was enqueued.

    route: the endpoint. user: flask_login's id of the user. trace: the id of the trace
    (OpenTelemetry), else the header X-Request-ID.
    """

    route: str | None = None
    user: str | None = None
    trace: str | None = None


NONE = JobOptions()
_options = msgspec.json.Decoder(JobOptions).decode
_enqueued_by = msgspec.json.Decoder(EnqueuedBy).decode


def encoded(value: JobOptions | EnqueuedBy | None) -> str | None:
    """As it is stored (JSON)."""
    return None if value is None else msgspec.json.encode(value).decode()


@lru_cache(maxsize=512)
def options_of(text: str | None) -> JobOptions:
    """The stored options of a job."""
    return NONE if text is None else _options(text)


def enqueued_by(text: str | None) -> EnqueuedBy | None:
    """The stored request that enqueued a job; None if it was no request."""
    return None if text is None else _enqueued_by(text)
