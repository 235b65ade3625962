"""Looking up one job of the jobs table."""

from __future__ import annotations

from typing import Any

from ...jobs.job import JobRecord, JobStatus
from ..rows import ATTEMPT_COLUMNS, COLUMNS, add_attempts, not_found, record, seq_of
from .connection import Connection

RESULT = "SELECT value FROM results WHERE seq = ? AND (expires_at IS NULL OR expires_at > ?)"
JOB_BY_ID = f"SELECT {COLUMNS} FROM jobs WHERE seq = ? AND id = ?"
JOB_BY_GIVEN_ID = f"SELECT {COLUMNS} FROM jobs WHERE given_id = ?"
ATTEMPTS = f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE seq = ? ORDER BY number"

TICKS = 65536
"""The unit of `seq` is a 65,536th of a second: 48 bits last until 2106, and longer ones work."""

NEXT_SEQ = "max(?, coalesce((SELECT max(seq) FROM jobs), 0) + 1)"
"""A job's number: the clock, but always above the one before, also when the clock was set back.
Numbers of deleted jobs don't come back, and do not reveal how many jobs there are."""


def find(connection: Connection, job_id: str) -> tuple[Any, ...]:
    """A job's row of COLUMNS. Raises JobNotFound."""
    row: tuple[Any, ...] | None = None
    seq = seq_of(job_id)
    if seq is not None:
        row = connection.execute(JOB_BY_ID, (seq, job_id)).fetchone()
    if row is None:
        row = connection.execute(JOB_BY_GIVEN_ID, (job_id,)).fetchone()
    if row is None:
        raise not_found(job_id)
    return row


def with_attempts(connection: Connection, rows: list[tuple[Any, ...]]) -> list[JobRecord]:
    """Rows of COLUMNS as records with their attempts and errors."""
    return [add_attempts(record(row), connection.execute(ATTEMPTS, (row[0],))) for row in rows]


def full(connection: Connection, job_id: str, now: float) -> tuple[int, JobRecord]:
    """A job's seq, and its record with attempts and the result, unless the result's time is over
    (it may still be there until the next pruning). Raises JobNotFound."""
    row = find(connection, job_id)
    [job] = with_attempts(connection, [row])
    if job.status is JobStatus.SUCCESSFUL:
        job.result = connection.execute(RESULT, (row[0], now)).get
    return row[0], job
