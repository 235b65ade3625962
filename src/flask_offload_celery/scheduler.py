"""Schedules: each of their times becomes a job exactly once, however many workers look."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from flask_offload.engines.base import ScheduleInfo
from flask_offload.engines.schedules import ScheduleSpec, fires, next_fire, schedule_of
from flask_offload.jobs.new_job import NewJob
from flask_offload.tasks.schedule import next_after

from .connections import Office
from .redis_store import Ledger

PATIENCE = 1.0


def tick(office: Office, spec: ScheduleSpec, now: float) -> list[NewJob]:
    """Enqueue a job for each time of the schedule that has come; what was enqueued.

    Times up to `last_at` are dealt with. Moving it on is one script with the enqueueing, which does
    nothing when `last_at` is no longer what we have read: then another worker was faster.
    """
    schedule, ledger = schedule_of(spec), office.ledger
    key = f"schedule:{spec.name}"
    stored, description = ledger.ask("HMGET", key, "last_at", "description")
    if stored is None or description != schedule.description:
        changes = {
            "task": spec.job.task,
            "description": schedule.description,
            "last_at": repr(now),
            "next_at": _text(next_after(schedule, now)),
        }
        _move_on(office, spec.name, stored, now, changes, [])
        return []
    found = fires(spec, float(stored), now)
    if found is None:
        return []
    changes = {"last_at": repr(found.last_at), "next_at": _text(found.next_at)}
    if found.jobs:
        changes |= {"last_fire": _text(found.fired_at), "last_job": found.jobs[-1].id}
    made = _move_on(office, spec.name, stored, now, changes, found.jobs)
    office.send_again([job.id for job in made])
    return made


def next_tick(office: Office, spec: ScheduleSpec, now: float) -> float | None:
    """When the schedule's next time comes, counted from what is dealt with."""
    stored = office.ledger.ask("HGET", f"schedule:{spec.name}", "last_at")
    return next_fire(spec, None if stored is None else float(stored), now)


def known_schedules(ledger: Ledger) -> list[ScheduleInfo]:
    """Every schedule that a worker has ever seen."""
    names = sorted(ledger.ask("SMEMBERS", "schedules"))
    rows = ledger.ask_all([("HGETALL", f"schedule:{name}") for name in names]) if names else []
    return [
        ScheduleInfo(
            name=name,
            task=row["task"],
            description=row["description"],
            last_run=_number(row.get("last_fire")),
            last_job=row.get("last_job"),
            next_run=_number(row.get("next_at")),
        )
        for name, row in zip(names, rows, strict=True)
        if row
    ]


def _move_on(
    office: Office,
    name: str,
    stored: str | None,
    now: float,
    changes: dict[str, str],
    jobs: Sequence[NewJob],
) -> list[NewJob]:
    """Write the schedule's changes and its jobs, if nobody has before; the jobs that are new."""
    pairs = json.dumps([text for pair in changes.items() for text in pair])
    drafts = [msgspec.json.encode(office.draft(job)) for job in jobs]
    answers = office.ledger.run("tick", name, stored or "", now, PATIENCE, pairs, *drafts)
    if answers == ["late"]:
        return []
    return [job for job, answer in zip(jobs, answers, strict=True) if answer == ["new"]]


def _text(moment: float | None) -> str:
    return "" if moment is None else repr(moment)


def _number(text: str | None) -> float | None:
    return float(text) if text else None
