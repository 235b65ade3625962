"""How a job is getting on: when it is worth asking again, and how long it may still take."""

from __future__ import annotations

import math

from ..jobs.job import Job, JobStatus

FASTEST, SLOWEST = 1, 15
"""Seconds between two polls. `Retry-After` has no fractions."""

LONGEST_SLEEP = 60
"""Seconds between two polls of a job that is to start later: it may yet be cancelled."""

TELLING_SECONDS, TELLING_FRACTION = 3.0, 0.05
"""From when on the pace so far says something about the rest."""


def remaining_seconds(job: Job, now: float) -> float | None:
    """Seconds until the end if the job goes on as it went so far; None when nobody can know.

    It takes a job that reports a fraction, and has run for a while. An attempt after the first may
    have begun in the middle, at a checkpoint, so its mean pace would promise too much.
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
    if elapsed < TELLING_SECONDS or not TELLING_FRACTION <= fraction < 1:
        return None
    return elapsed * (1 - fraction) / fraction


def retry_after(job: Job, now: float) -> int:
    """Whole seconds after which the next poll is likely to see something new.

    With a known pace, once for each hundredth of the work, and in time for the end. Without one, a
    tenth of the time that has passed: the answer then comes at most a tenth later than it could.
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
