"""Schedules: each of their times becomes a job exactly once, however many workers look."""

from __future__ import annotations

from ...jobs.job import JobRecord
from ...tasks.schedule import Schedule, next_after
from ..schedules import ScheduleSpec, fires, schedule_of
from .connection import PgConnection
from .sender import PostgresSender

READ = """
SELECT last_at, description, disabled_at FROM offload.schedules WHERE name = %s FOR UPDATE
"""
LAST = "SELECT last_at FROM offload.schedules WHERE name = %s"

MOVE = """
UPDATE offload.schedules SET last_at = %s, next_at = %s, last_fire = coalesce(%s, last_fire),
    last_job = coalesce(%s, last_job)
WHERE name = %s
"""

BEGIN = """
INSERT INTO offload.schedules AS s (name, task, description, last_at, next_at)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET task = excluded.task, description = excluded.description,
    last_at = greatest(s.last_at, excluded.last_at), next_at = excluded.next_at
"""


def tick(
    engine: PostgresSender, connection: PgConnection, spec: ScheduleSpec, now: float
) -> list[JobRecord]:
    """Enqueue a job for each time of the schedule that has come, in the caller's transaction; the
    jobs that are new.

    Times up to `last_at` are dealt with. The schedule's row is locked meanwhile, so that of two
    workers the second finds nothing left to do.
    """
    schedule = schedule_of(spec)
    row = connection.execute(READ, (spec.name,)).fetchone()
    if row is None or row[1] != schedule.description:
        _begin(connection, spec, schedule, now)
        return []
    found = fires(spec, row[0], now, is_disabled=row[2] is not None)
    if found is None:
        return []
    records = engine.insert(connection, found.jobs, now) if found.jobs else []
    last_job = records[-1].id if records else None
    values = (found.last_at, found.next_at, found.fired_at, last_job, spec.name)
    connection.execute(MOVE, values)
    return [record for record in records if not record.is_duplicate]


def _begin(connection: PgConnection, spec: ScheduleSpec, schedule: Schedule, now: float) -> None:
    """A schedule that is new, or declared again with other times, starts from now."""
    values = (spec.name, spec.job.task, schedule.description, now, next_after(schedule, now))
    connection.execute(BEGIN, values)
