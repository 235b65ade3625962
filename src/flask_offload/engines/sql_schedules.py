"""Schedules in a SQL store: each of their times becomes a job exactly once, however many workers
look."""

from __future__ import annotations

from ..jobs.job import JobRecord
from ..tasks.schedule import next_after
from .schedules import ScheduleSpec, fires, next_fire, schedule_of
from .sql_sender import C, SqlSender

READ = "SELECT last_at, description, disabled_at FROM offload.schedules WHERE name = ? FOR UPDATE"
LAST = "SELECT last_at FROM offload.schedules WHERE name = ?"

MOVE = """
UPDATE offload.schedules SET last_at = ?, next_at = ?, last_fire = coalesce(?, last_fire),
    last_job = coalesce(?, last_job)
WHERE name = ?
"""

BEGIN = """
INSERT INTO offload.schedules AS known (name, task, description, last_at, next_at)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET task = excluded.task, description = excluded.description,
    next_at = excluded.next_at, last_at = CASE WHEN known.last_at > excluded.last_at
        THEN known.last_at ELSE excluded.last_at END
"""
"""A schedule that is new, or declared again with other times, starts from now."""


def tick(engine: SqlSender[C], connection: C, spec: ScheduleSpec, now: float) -> list[JobRecord]:
    """Enqueue a job for each time of the schedule that has come, in the caller's transaction; the
    jobs that are new.

    Times up to `last_at` are dealt with. No other transaction changes the schedule meanwhile, so
    that of two workers the second finds nothing left to do.
    """
    sql, schedule = engine.dialect.sql, schedule_of(spec)
    row = connection.execute(sql(READ), (spec.name,)).fetchone()
    if row is None or row[1] != schedule.description:
        times = (now, next_after(schedule, now))
        connection.execute(sql(BEGIN), (spec.name, spec.job.task, schedule.description, *times))
        return []
    found = fires(spec, row[0], now, is_disabled=row[2] is not None)
    if found is None:
        return []
    records = engine.insert(connection, found.jobs, now)
    last_job = records[-1].id if records else None
    values = (found.last_at, found.next_at, found.fired_at, last_job, spec.name)
    connection.execute(sql(MOVE), values)
    return [record for record in records if not record.is_duplicate]


def next_tick(engine: SqlSender[C], connection: C, spec: ScheduleSpec, now: float) -> float | None:
    """When the schedule's next time comes, counted from what is dealt with."""
    row = connection.execute(engine.dialect.sql(LAST), (spec.name,)).fetchone()
    return next_fire(spec, None if row is None else row[0], now)
