"""Schedules: each of their times becomes a job exactly once, however many workers look."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from ...job import new_id
from ...schedule import Schedule, count_from, due, next_after
from ..base import NewJob, ScheduleSpec
from .records import draft

if TYPE_CHECKING:
    from .engine import CeleryEngine

PATIENCE = 1.0


def tick(engine: CeleryEngine, spec: ScheduleSpec, now: float) -> list[NewJob]:
    """Enqueue a job for each time of the schedule that has come; what was enqueued.

    Times up to `last_at` are dealt with. Moving it on is one script with the enqueueing, which does
    nothing when `last_at` is no longer what we have read: then another worker was faster.
    """
    schedule, ledger = _schedule(spec), engine.ledger
    key = f"schedule:{spec.name}"
    stored, description = ledger.ask("HMGET", key, "last_at", "description")
    if stored is None or description != schedule.description:
        begun = {"task": spec.job.task, "description": schedule.description, "last_at": repr(now)}
        _move_on(engine, spec.name, stored, now, {**begun, **_next(schedule, now)}, [])
        return []
    last = count_from(float(stored), now)
    times = due(schedule, last, now)
    if not times and now - last < 60 and last == float(stored):
        return []  # nothing to write
    jobs = [msgspec.structs.replace(spec.job, id=new_id(), enqueued_at=now) for _ in times]
    changes = {"last_at": repr(max(last, now)), **_next(schedule, now)}
    if jobs:
        changes |= {"last_fire": repr(times[-1]), "last_job": jobs[-1].id}
    made = _move_on(engine, spec.name, stored, now, changes, jobs)
    engine.send_again([job.id for job in made])
    return made


def next_tick(engine: CeleryEngine, spec: ScheduleSpec, now: float) -> float | None:
    """When the schedule's next time comes, counted from what is dealt with."""
    stored = engine.ledger.ask("HGET", f"schedule:{spec.name}", "last_at")
    last = now if stored is None else count_from(float(stored), now)
    return next_after(_schedule(spec), last)


def _move_on(
    engine: CeleryEngine,
    name: str,
    stored: str | None,
    now: float,
    changes: dict[str, str],
    jobs: list[NewJob],
) -> list[NewJob]:
    """Write the schedule's changes and its jobs, if nobody has before; the jobs that are new."""
    pairs = json.dumps([text for pair in changes.items() for text in pair])
    drafts = [msgspec.json.encode(draft(job, keep=engine.keep_failed)) for job in jobs]
    answers = engine.ledger.run("tick", name, stored or "", now, PATIENCE, pairs, *drafts)
    if answers == ["late"]:
        return []
    return [job for job, answer in zip(jobs, answers, strict=True) if answer == ["new"]]


def _next(schedule: Schedule, now: float) -> dict[str, str]:
    following = next_after(schedule, now)
    return {"next_at": "" if following is None else repr(following)}


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


def _schedule(spec: ScheduleSpec) -> Schedule:
    return _cached(spec.name, spec.cron, spec.interval, spec.tz, spec.jitter, spec.catch_up)
