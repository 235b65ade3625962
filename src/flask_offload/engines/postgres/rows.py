"""Looking up one job of the jobs table."""

from __future__ import annotations

from typing import Any

from ...jobs.job import JobRecord, JobStatus
from ..rows import ATTEMPT_COLUMNS, COLUMNS, add_attempts, not_found, record, seq_of
from .connection import PgConnection

JOB_BY_ID = f"SELECT {COLUMNS} FROM offload.jobs WHERE seq = %s AND id = %s"
JOB_BY_GIVEN_ID = f"SELECT {COLUMNS} FROM offload.jobs WHERE given_id = %s"
ATTEMPTS = f"SELECT {ATTEMPT_COLUMNS} FROM offload.attempts WHERE seq = %s ORDER BY number"
ATTEMPTS_OF = f"""
SELECT seq, {ATTEMPT_COLUMNS} FROM offload.attempts WHERE seq = ANY(%s::bigint[]) ORDER BY number
"""
RESULT = """
SELECT result FROM offload.jobs
WHERE seq = %s AND (result_expires_at IS NULL OR result_expires_at > %s)
"""

MAX_SEQ = 2**63 - 1


def find(connection: PgConnection, job_id: str, *, lock: bool = False) -> tuple[Any, ...]:
    """A job's row of COLUMNS. Raises JobNotFound.

    lock: keep other transactions from changing it until this one ends.
    """
    seq = seq_of(job_id)
    row = None
    if seq is not None and 0 <= seq <= MAX_SEQ and "\0" not in job_id and job_id.isascii():
        end = " FOR UPDATE" if lock else ""
        row = connection.execute(JOB_BY_ID + end, (seq, job_id)).fetchone()
        if row is None:
            row = connection.execute(JOB_BY_GIVEN_ID + end, (job_id,)).fetchone()
    if row is None:
        raise not_found(job_id)
    return row


def with_attempts(connection: PgConnection, rows: list[tuple[Any, ...]]) -> list[JobRecord]:
    """Rows of COLUMNS as records with their attempts and errors."""
    found: dict[int, list[tuple[Any, ...]]] = {row[0]: [] for row in rows}
    for seq, *attempt in connection.execute(ATTEMPTS_OF, (list(found),)) if found else ():
        found[seq].append(tuple(attempt))
    return [add_attempts(record(row), found[row[0]]) for row in rows]


def full(connection: PgConnection, job_id: str, now: float) -> tuple[int, JobRecord]:
    """A job's seq, and its record with attempts and the result, unless the result has expired (it
    may still be there until the next pruning). Raises JobNotFound."""
    row = find(connection, job_id)
    job = add_attempts(record(row), connection.execute(ATTEMPTS, (row[0],)))
    if job.status is JobStatus.SUCCESSFUL:
        job.result = connection.value(RESULT, (row[0], now))
    return row[0], job
