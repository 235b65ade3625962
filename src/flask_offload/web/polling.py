"""Polling: when a client should ask again, how long a job may still take, and a limit on polls."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable

from ..jobs.job import Job, JobStatus

FASTEST, SLOWEST = 1, 15
"""Seconds between two polls. `Retry-After` has no fractions."""

LONGEST_SLEEP = 60
"""Seconds between two polls of a job with a later `run_after`: it may be cancelled before."""

MIN_SECONDS, MIN_FRACTION = 3.0, 0.05
"""From this time and fraction on, the remaining time is estimated."""

MAX_KEYS = 10_000
"""Clients, and jobs, that are tracked; beyond that the least recent ones are dropped."""

BURST_SECONDS = 2.0
"""After a pause a client may make as many polls at once as it may make in this time."""


def remaining_seconds(job: Job, now: float) -> float | None:
    """Seconds until the end at the mean speed so far; None when that is unknown.

    The job must report a fraction and have run for a while. An attempt after the first may have
    resumed at a checkpoint, so its mean speed would be too high. Between two reports the time
    counts down; None when it is over.
    now: unix seconds.
    """
    progress, started = job.progress, job.started_at
    if (
        job.status is not JobStatus.RUNNING
        or job.cancel_requested
        or progress is None
        or progress.fraction is None
        or started is None
        or len(job.attempts) > 1
    ):
        return None
    elapsed = now - started.timestamp()
    fraction = progress.fraction
    if elapsed < MIN_SECONDS or not MIN_FRACTION <= fraction < 1:
        return None
    reported = _seen.first((job.id, started), fraction, elapsed)
    left = reported * (1 - fraction) / fraction - (elapsed - reported)
    return left if left > 0 else None


class _Seen:
    """When the current fraction of each attempt was first seen here, in seconds after its start.

    No engine keeps the time of a report. Kept in the memory of each web process.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def first(self, attempt: Hashable, fraction: float, elapsed: float) -> float:
        """When this fraction was first seen; now, if it is new."""
        with self._lock:
            found = self._found.pop(attempt, None)
            if found is None or found[0] != fraction or found[1] > elapsed:
                found = fraction, elapsed
            self._found[attempt] = found
            if len(self._found) > MAX_KEYS:
                self._found.popitem(last=False)
        return found[1]


_seen = _Seen()


def retry_after(job: Job, now: float) -> int:
    """Whole seconds after which the next poll is likely to see something new.

    With a known speed, once for each hundredth of the work, and in time for the end. Without one, a
    tenth of the time that has passed: the result is then seen at most a tenth later than possible.
    now: unix seconds.
    """
    run_after = job.run_after
    if job.status is JobStatus.READY and run_after is not None and run_after.timestamp() > now:
        return max(FASTEST, min(LONGEST_SLEEP, math.ceil(run_after.timestamp() - now)))
    remaining = remaining_seconds(job, now)
    if remaining is not None and job.started_at is not None:
        whole = now - job.started_at.timestamp() + remaining
        pause = min(whole / 100, remaining)
    else:
        pause = (now - job.enqueued_at.timestamp()) / 10
    return max(FASTEST, min(SLOWEST, math.ceil(pause)))


def waiting_headers(job: Job, now: float) -> dict[str, str]:
    """The headers of a response about a job that has not ended: when to poll again, and how far it
    is. None for a job that has ended. now: unix seconds."""
    if job.is_finished:
        return {}
    headers = {"Retry-After": str(retry_after(job, now))}
    if job.progress is not None and job.progress.fraction is not None:
        headers["X-Progress"] = f"{int(job.progress.fraction * 100)}%"
    return headers


class PollLimiter:
    """At most `rate` requests per second for each key, after a first burst.

    The generic cell rate algorithm (ITU-T I.371): one number per key, the moment at which the
    requests made so far would have been due at a constant rate.
    Kept in the memory of each web process.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._due: OrderedDict[Hashable, float] = OrderedDict()
        self._max_keys = max_keys
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._due)

    def check(self, key: Hashable, rate: float, now: float) -> int:
        """Count a request; returns 0 if it is allowed, else the whole seconds to wait.

        rate: requests per second; 0 for no limit. now: seconds of a monotonic clock.
        """
        if not rate:
            return 0
        with self._lock:
            due = max(self._due.pop(key, now), now)
            early = due - now - BURST_SECONDS
            refused = early > 1e-9
            self._due[key] = due if refused else due + 1 / rate  # now the most recent
            if len(self._due) > self._max_keys:
                self._due.popitem(last=False)
        return max(1, math.ceil(early)) if refused else 0
