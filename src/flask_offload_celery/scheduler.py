"""Fires schedules: each of their times becomes one job, however many workers run."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from flask_offload.engine_api import (
    NewJob,
    ScheduleInfo,
    ScheduleSpec,
    fires,
    next_fire,
    schedule_of,
)

from .connections import Connections
from .redis_store import RedisStore

PATIENCE = 1.0


def tick(connections: Connections, spec: ScheduleSpec, now: float) -> list[NewJob]:
    """Enqueue a job for each time of the schedule that has come; what was enqueued.

    Times up to `last_at` have been fired. One script changes it and enqueues the jobs, and does
    nothing if `last_at` is no longer as it was read: then another worker was faster.
    """
    schedule, store = schedule_of(spec), connections.store
    key = f"schedule:{spec.name}"
    stored, description, disabled_at = store.ask(
        "HMGET", key, "last_at", "description", "disabled_at"
    )
    if stored is None or description != schedule.description:
        changes = {
            "task": spec.job.task,
            "description": schedule.description,
            "last_at": repr(now),
            "next_at": _text(next_fire(spec, None, now)),
        }
        _fire(connections, spec.name, stored, now, changes, [])
        return []
    found = fires(spec, float(stored), now, is_disabled=disabled_at is not None)
    if found is None:
        return []
    changes = {"last_at": repr(found.last_at), "next_at": _text(found.next_at)}
    if found.jobs:
        changes |= {"last_fire": _text(found.fired_at), "last_job": found.jobs[-1].id}
    enqueued = _fire(connections, spec.name, stored, now, changes, found.jobs)
    connections.send_again([job.id for job in enqueued])
    return enqueued


def next_tick(connections: Connections, spec: ScheduleSpec, now: float) -> float | None:
    """When the schedule fires next (unix seconds)."""
    stored = connections.store.ask("HGET", f"schedule:{spec.name}", "last_at")
    return next_fire(spec, None if stored is None else float(stored), now)


def known_schedules(store: RedisStore) -> list[ScheduleInfo]:
    """Every schedule that a worker has ever fired or planned."""
    names = sorted(store.ask("SMEMBERS", "schedules"))
    rows = store.ask_all([("HGETALL", f"schedule:{name}") for name in names]) if names else []
    return [
        ScheduleInfo(
            name=name,
            task=row["task"],
            description=row["description"],
            last_run=_number(row.get("last_fire")),
            last_job=row.get("last_job"),
            next_run=_number(row.get("next_at")),
            disabled_at=_number(row.get("disabled_at")),
        )
        for name, row in zip(names, rows, strict=True)
        if row
    ]


def disable(store: RedisStore, schedule: ScheduleInfo, now: float) -> None:
    """Make no more jobs of a schedule, be it new."""
    key = f"schedule:{schedule.name}"
    new = {
        "task": schedule.task,
        "description": schedule.description,
        "last_at": repr(now),
        "disabled_at": repr(now),
    }
    store.ask_all(
        [("SADD", "schedules", schedule.name)]
        + [("HSETNX", key, field, value) for field, value in new.items()]
    )


def _fire(
    connections: Connections,
    name: str,
    stored: str | None,
    now: float,
    changes: dict[str, str],
    jobs: Sequence[NewJob],
) -> list[NewJob]:
    """Record the schedule's changes and its jobs, unless another worker has; the new jobs."""
    pairs = json.dumps([text for pair in changes.items() for text in pair])
    drafts = [msgspec.json.encode(connections.draft(job)) for job in jobs]
    answers = connections.store.run("tick", name, stored or "", now, PATIENCE, pairs, *drafts)
    if answers == ["late"]:
        return []
    return [job for job, answer in zip(jobs, answers, strict=True) if answer == ["new"]]


def _text(moment: float | None) -> str:
    return "" if moment is None else repr(moment)


def _number(text: str | None) -> float | None:
    return float(text) if text else None
