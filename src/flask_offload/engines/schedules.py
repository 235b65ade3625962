"""What every engine that keeps schedules does alike: from a declared schedule to the jobs due now.

An engine remembers two things of a schedule: its description, and the moment up to which its times
are dealt with. It moves that moment on and enqueues the jobs in one transaction, so that of two
workers the second finds nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from ..jobs.job import new_id
from ..jobs.new_job import NewJob
from ..tasks.schedule import Schedule, count_from, due, next_after

WRITE_EVERY: Final = 60.0
"""Seconds after which it is written down that no time has come."""


class ScheduleSpec(msgspec.Struct, array_like=True):
    """A schedule that the app declares, and the job that each of its times makes.

    Either `cron` or `interval` (seconds); jitter in seconds.
    """

    name: str
    cron: str | None
    interval: float | None
    tz: str | None
    jitter: float
    catch_up: str
    job: NewJob


class Fires(msgspec.Struct, frozen=True):
    """What is to be written down of a schedule. Moments in unix seconds.

    jobs: one for each time that has come. last_at: up to here all is dealt with. fired_at: the
    newest of the times; None if none has come.
    """

    jobs: Sequence[NewJob]
    last_at: float
    next_at: float | None
    fired_at: float | None


def spec_of(schedule: Schedule, job: NewJob) -> ScheduleSpec:
    """A schedule in a form that can be sent to another process. job: what each time makes."""
    when, jitter = schedule.when, schedule.jitter
    return ScheduleSpec(
        name=schedule.name,
        cron=when if isinstance(when, str) else None,
        interval=when.total_seconds() if isinstance(when, timedelta) else None,
        tz=schedule.tz.key if isinstance(schedule.tz, ZoneInfo) else schedule.tz,
        jitter=jitter.total_seconds() if isinstance(jitter, timedelta) else jitter,
        catch_up=schedule.catch_up,
        job=job,
    )


def schedule_of(spec: ScheduleSpec) -> Schedule:
    """The way back."""
    return _cached(spec.name, spec.cron, spec.interval, spec.tz, spec.jitter, spec.catch_up)


def fires(
    spec: ScheduleSpec, last_at: float, now: float, *, is_disabled: bool = False
) -> Fires | None:
    """What has come due since `last_at`; None if there is nothing to write down. The times of a
    disabled schedule pass without a job."""
    schedule = schedule_of(spec)
    last = count_from(last_at, now)
    times = due(schedule, last, now)
    if not times and now - last < WRITE_EVERY and last == last_at:
        return None
    if is_disabled:
        times = []
    return Fires(
        jobs=[msgspec.structs.replace(spec.job, id=new_id(), enqueued_at=now) for _ in times],
        last_at=max(last, now),
        next_at=next_after(schedule, now),
        fired_at=times[-1] if times else None,
    )


def next_fire(spec: ScheduleSpec, last_at: float | None, now: float) -> float | None:
    """When the schedule's next time comes; last_at: None for one that is new."""
    return next_after(schedule_of(spec), now if last_at is None else count_from(last_at, now))


@lru_cache(maxsize=1024)
def _cached(
    name: str,
    cron: str | None,
    interval: float | None,
    tz: str | None,
    jitter: float,
    catch_up: str,
) -> Schedule:
    when = cron if cron is not None else timedelta(seconds=interval or 0)
    return Schedule(name, when, tz, jitter, catch_up)  # type: ignore[arg-type]
