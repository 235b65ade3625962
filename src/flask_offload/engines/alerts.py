"""Which tasks fail, for OFFLOAD_ALERT: the table `failing`.

Nothing is written for a success unless its task fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..jobs.alert import alert_job, is_alert_due
from ..jobs.new_job import NewJob
from .dialect import Dialect
from .rows import ID

FAILING = "SELECT task FROM offload.failing"
ADD_FAILURE = """
INSERT INTO offload.failing (task, failed_jobs) VALUES (?, 1)
ON CONFLICT (task) DO UPDATE SET failed_jobs = failing.failed_jobs + 1 RETURNING failed_jobs
"""
RECOVER = "DELETE FROM offload.failing WHERE task = ? RETURNING failed_jobs"
SUBJECT = f"SELECT {ID}, queue_name, context FROM offload.jobs WHERE seq = ?"


class JobEnd(NamedTuple):
    """A job that is SUCCESSFUL or has FAILED. finished_at: unix seconds. seq: its number."""

    task: str
    finished_at: float
    has_failed: bool
    seq: int


def note_ends(
    execute: Callable[..., Any], dialect: Dialect, ended: Iterable[JobEnd], now: float
) -> list[NewJob]:
    """Count the failures of each task since its last success; the jobs to enqueue that call
    OFFLOAD_ALERT. execute: of a connection, in whose transaction it is done. now: unix seconds."""
    failing = {task for (task,) in execute(dialect.sql(FAILING)).fetchall()}
    jobs = []
    for one in sorted(ended):  # so that workers lock the rows of several tasks in the same order
        if one.has_failed:
            failing.add(one.task)
        elif one.task in failing:
            failing.remove(one.task)
        else:
            continue
        statement = ADD_FAILURE if one.has_failed else RECOVER
        row = execute(dialect.sql(statement), (one.task,)).fetchone()
        if row is None or (one.has_failed and not is_alert_due(row[0])):
            continue  # None: another worker has ended the count
        job_id, queue_name, context = execute(dialect.sql(SUBJECT), (one.seq,)).fetchone()
        alert = (one.task, row[0], job_id, not one.has_failed)
        jobs.append(alert_job(alert, queue_name, context, now))
    return jobs
