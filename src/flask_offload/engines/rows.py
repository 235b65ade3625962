"""What a store reads, as records, and the public status as the states of a store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import JobNotFound
from ..jobs.job import Attempt, Error, JobRecord, JobStatus, moment
from ..jobs.options import enqueued_by

WAITING = ("scheduled", "blocked", "throttled", "ready")
"""The states of READY, in the order in which a job passes them."""

STATES: dict[JobStatus, tuple[str, ...]] = {
    JobStatus.READY: WAITING,
    JobStatus.RUNNING: ("running",),
    JobStatus.SUCCESSFUL: ("successful",),
    JobStatus.FAILED: ("failed",),
    JobStatus.CANCELLED: ("cancelled",),
}
STATUS: dict[str, JobStatus] = {
    state: status for status, states in STATES.items() for state in states
}
WAITING_FOR = {"scheduled": "its time", "blocked": "concurrency", "throttled": "rate"}


DUE_STATE = (
    "CASE WHEN concurrency_key IS NOT NULL THEN 'blocked'"
    " WHEN rate_key IS NOT NULL THEN 'throttled' ELSE 'ready' END"
)
"""The state of a job that may start as far as time is concerned: `admit` takes it from there."""

ID = "coalesce(given_id, id)"
"""A job's id: the one that it brought from an outbox, else the one made of its number."""

COLUMNS = (
    f"seq, {ID}, task, queue_name, priority, state, enqueued_at, run_after, started_at,"
    " finished_at, attempt, crashes, worker, owner, origin, done, total, message, cancel,"
    " enqueued_by"
)
"""What `record` reads, in this order."""

SECRET_LENGTH = 32


def make_id(seq: int, secret: str) -> str:
    """A job's id; the same as the column of that name."""
    return f"{seq:012x}{secret}"


def seq_of(job_id: str) -> int | None:
    """The job's number, which its id begins with; None if this is no job's id."""
    if len(job_id) <= SECRET_LENGTH + 15:
        with suppress(ValueError):
            return int(job_id[:-SECRET_LENGTH], 16)
    return None


def not_found(job_id: str) -> JobNotFound:
    """The error for an id without a job."""
    return JobNotFound(
        f"there is no job {job_id!r}: it never existed, or its retention time is over"
    )


def record(row: tuple[Any, ...]) -> JobRecord:
    """A row of COLUMNS as a record, without what is in other tables."""
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
        enqueued_by=enqueued_by(row[19]),
    )


ATTEMPT_COLUMNS = (
    "number, worker, started_at, finished_at, outcome, error_type, error_message, traceback"
)


def add_attempts(job: JobRecord, rows: Iterable[tuple[Any, ...]]) -> JobRecord:
    """Complete a record with its attempts, rows of ATTEMPT_COLUMNS in order, and its error."""
    job.attempts = [
        Attempt(
            number=number,
            worker=worker,
            started_at=moment(started),
            finished_at=moment(finished),
            outcome=outcome,
            error=Error(kind, text, trace) if kind else None,
        )
        for number, worker, started, finished, outcome, kind, text, trace in rows
    ]
    recorded = job.attempts[-1].number if job.attempts else 0
    if job.attempt > recorded and job.status in (JobStatus.RUNNING, JobStatus.SUCCESSFUL):
        # no row of its own: all about it is in the job's row
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


@dataclass
class Freed:
    """The keys of limits that have capacity again."""

    concurrency: set[str | None] = field(default_factory=set)
    rates: set[str | None] = field(default_factory=set)

    def add(self, concurrency_key: str | None, rate_key: str | None) -> None:
        """Note the keys of one job."""
        self.concurrency.add(concurrency_key)
        self.rates.add(rate_key)
