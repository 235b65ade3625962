"""Schedules: each of their times becomes a job exactly once, however many workers look."""

from __future__ import annotations

from ...jobs.job import JobRecord
from ...tasks.schedule import Schedule, next_after
from ..schedules import ScheduleSpec, fires, next_fire, schedule_of
from .connection import Connection
from .sender import SqliteSender


def tick(engine: SqliteSender, spec: ScheduleSpec, now: float) -> list[JobRecord]:
    """Enqueue a job for each time of the schedule that has come; the jobs that are new.

    Times up to `last_at` are dealt with; reading it, enqueueing and moving it on is one
    transaction, so that of two workers the second finds nothing left to do.
    """
    schedule = schedule_of(spec)

    def work(connection: Connection) -> list[JobRecord]:
        row = connection.execute(
            "SELECT last_at, description, disabled_at FROM schedules WHERE name = ?", (spec.name,)
        ).fetchone()
        if row is None or row[1] != schedule.description:
            _begin(connection, spec, schedule, now)
            return []
        found = fires(spec, row[0], now, is_disabled=row[2] is not None)
        if found is None:
            return []
        records = engine.insert(connection, found.jobs, now)
        connection.execute(
            "UPDATE schedules SET last_at = ?, next_at = ?, last_fire = coalesce(?, last_fire),"
            " last_job = coalesce(?, last_job) WHERE name = ?",
            (
                found.last_at,
                found.next_at,
                found.fired_at,
                records[-1].id if records else None,
                spec.name,
            ),
        )
        return [record for record in records if not record.is_duplicate]

    return engine.database.write(work)


def next_tick(engine: SqliteSender, spec: ScheduleSpec, now: float) -> float | None:
    """When the schedule's next time comes, counted from what is dealt with."""
    last = engine.database.read(
        lambda connection: (
            connection.execute("SELECT last_at FROM schedules WHERE name = ?", (spec.name,)).get
        )
    )
    return next_fire(spec, last, now)


def _begin(connection: Connection, spec: ScheduleSpec, schedule: Schedule, now: float) -> None:
    """A schedule that is new, or declared again with other times, starts from now."""
    connection.execute(
        "INSERT INTO schedules (name, task, description, last_at, next_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET task = excluded.task, description = excluded.description,"
        " last_at = max(last_at, excluded.last_at), next_at = excluded.next_at",
        (spec.name, spec.job.task, schedule.description, now, next_after(schedule, now)),
    )
