"""Schedules disabled and enabled by hand, in the words of both SQL stores."""

from __future__ import annotations

from .attempt_writes import SqlConnection
from .base import ScheduleInfo
from .dialect import Dialect

DISABLE = """
INSERT INTO offload.schedules AS s (name, task, description, last_at, disabled_at)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET disabled_at = coalesce(s.disabled_at, excluded.disabled_at)
"""

ENABLE = """
UPDATE offload.schedules SET disabled_at = NULL,
    last_at = CASE WHEN last_at < ? THEN ? ELSE last_at END
WHERE name = ? AND disabled_at IS NOT NULL
"""
"""The times that have passed meanwhile are dealt with: none is caught up."""


def disable(
    connection: SqlConnection, dialect: Dialect, schedule: ScheduleInfo, now: float
) -> None:
    """See Engine.disable_schedule."""
    values = (schedule.name, schedule.task, schedule.description, now, now)
    connection.execute(dialect.sql(DISABLE), values)


def enable(connection: SqlConnection, dialect: Dialect, name: str, now: float) -> None:
    """See Engine.enable_schedule."""
    connection.execute(dialect.sql(ENABLE), (now, now, name))
