"""Rows of the jobs table as JobRecords, and the public status as the table's states."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ...errors import JobNotFound
from ...jobs.job import Attempt, Error, JobRecord, JobStatus, moment
from .connection import Connection

WAITING = ("scheduled", "blocked", "throttled", "ready")
"""The states of READY, in the order in which a job passes them."""

STATES = {
    JobStatus.READY: WAITING,
    JobStatus.RUNNING: ("running",),
    JobStatus.SUCCESSFUL: ("successful",),
    JobStatus.FAILED: ("failed",),
    JobStatus.CANCELLED: ("cancelled",),
}
STATUS = {state: status for status, states in STATES.items() for state in states}
WAITING_FOR = {"scheduled": "its time", "blocked": "concurrency", "throttled": "rate"}


def states_sql(*statuses: JobStatus) -> str:
    """These statuses as the inside of an SQL `IN (…)`."""
    return ", ".join(f"'{state}'" for status in sorted(statuses) for state in STATES[status])


COLUMNS = (
    "seq, id, task, queue_name, priority, state, enqueued_at, run_after, started_at, finished_at,"
    " attempt, crashes, worker, owner, origin, done, total, message, cancel"
)

RESULT = "SELECT value FROM results WHERE seq = ? AND (expires_at IS NULL OR expires_at > ?)"
JOB_BY_ID = f"SELECT {COLUMNS} FROM jobs WHERE seq = ? AND id = ?"

TICKS = 65536
"""The unit of `seq` is a 65,536th of a second: 48 bits last until 2106, and longer ones work."""

NEXT_SEQ = "max(?, coalesce((SELECT max(seq) FROM jobs), 0) + 1)"
"""A job's number: the clock, but always above the one before, also when the clock was set back.
Numbers of deleted jobs don't come back, and tell nobody how many jobs there are."""

SECRET_LENGTH = 32


def make_id(seq: int, secret: str) -> str:
    """A job's id; the same as the column of that name."""
    return f"{seq:012x}{secret}"


def find(connection: Connection, job_id: str) -> tuple[Any, ...]:
    """A job's row of COLUMNS. Raises JobNotFound."""
    row: tuple[Any, ...] | None = None
    if len(job_id) <= SECRET_LENGTH + 15:
        with suppress(ValueError):
            seq = int(job_id[:-SECRET_LENGTH], 16)
            row = connection.execute(JOB_BY_ID, (seq, job_id)).fetchone()
    if row is None:
        raise JobNotFound(
            f"there is no job {job_id!r}: it never existed, or its retention time is over"
        )
    return row


def record(row: tuple[Any, ...]) -> JobRecord:
    """A row of COLUMNS as a record, without what lies in other tables."""
    state = row[5]
    return JobRecord(
        id=row[1],
        task=row[2],
        queue_name=row[3],
        priority=row[4],
        status=STATUS[state],
        enqueued_at=row[6],
        run_after=row[7],
        started_at=row[8],
        finished_at=row[9],
        attempt=row[10],
        crashes=row[11],
        worker=row[12],
        owner=row[13],
        origin=row[14],
        done=row[15],
        total=row[16],
        message=row[17],
        cancel_requested=row[18] > 0,
        waiting_for=WAITING_FOR.get(state),
    )


def with_attempts(connection: Connection, row: tuple[Any, ...]) -> JobRecord:
    """A row of COLUMNS as a record with its attempts and its error."""
    job = record(row)
    job.attempts = [
        Attempt(
            number=number,
            worker=worker,
            started_at=moment(started),
            finished_at=moment(finished),
            outcome=outcome,
            error=Error(kind, text, trace) if kind else None,
        )
        for number, worker, started, finished, outcome, kind, text, trace in connection.execute(
            "SELECT number, worker, started_at, finished_at, outcome, error_type, error_message,"
            " traceback FROM attempts WHERE seq = ? ORDER BY number",
            (row[0],),
        )
    ]
    told = job.attempts[-1].number if job.attempts else 0
    if job.attempt > told and job.status in (JobStatus.RUNNING, JobStatus.SUCCESSFUL):
        # no row of its own: the job's row tells all about it
        outcome = str(job.status) if job.status is JobStatus.SUCCESSFUL else None
        job.attempts.append(
            Attempt(
                number=job.attempt,
                worker=job.worker,
                started_at=moment(job.started_at),
                finished_at=moment(job.finished_at),
                outcome=outcome,
            )
        )
    elif job.attempts:
        job.error = job.attempts[-1].error
    return job


def full(connection: Connection, job_id: str, now: float) -> tuple[int, JobRecord]:
    """A job's seq, and its record with attempts and the result, unless the result's time is over
    (it may still be there until the next pruning). Raises JobNotFound."""
    row = find(connection, job_id)
    job = with_attempts(connection, row)
    if job.status is JobStatus.SUCCESSFUL:
        job.result = connection.execute(RESULT, (row[0], now)).get
    return row[0], job
