"""A job that is about to be enqueued, as the row that a store inserts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..jobs.job import JobRecord, JobStatus
from ..jobs.new_job import NewJob
from ..jobs.options import encoded
from .rows import SECRET_LENGTH, WAITING_FOR, make_id

NEW_COLUMNS = (
    "secret, task, queue_name, lane, priority, state, on_crash, origin, owner, enqueued_at,"
    " run_after, unique_key, concurrency_key, rate_key, context, options, enqueued_by, args,"
    " given_id"
)
"""What `new_row` fills, in this order."""


def new_row(job: NewJob, state: str, args: str | None) -> tuple[Any, ...]:
    """The values of NEW_COLUMNS. args: None if they are in another table."""
    return (
        job.id[-SECRET_LENGTH:],
        job.task,
        job.queue_name,
        job.lane,
        job.priority,
        state,
        job.on_crash,
        job.origin,
        job.owner,
        job.enqueued_at,
        job.run_after,
        job.unique_key,
        job.concurrency_key,
        job.rate_key,
        job.context,
        encoded(job.options),
        encoded(job.enqueued_by),
        args,
        job.id if job.has_given_id else None,
    )


def first_state(job: NewJob, now: float) -> str:
    """The state in which a job begins. now: unix seconds."""
    if job.run_after is not None and job.run_after > now:
        return "scheduled"
    if job.concurrency_key is not None:
        return "blocked"
    return "throttled" if job.rate_key is not None else "ready"


def new_record(job: NewJob, seq: int, state: str) -> JobRecord:
    """The record of a job that was inserted with this number."""
    accepted = job.record(waiting_for=WAITING_FOR.get(state))
    if not job.has_given_id:
        accepted.id = make_id(seq, job.id[-SECRET_LENGTH:])
    return accepted


def is_duplicate(job: NewJob, of: JobRecord, now: float) -> bool:
    """Whether `of`, which holds the job's unique key, takes the job's place."""
    states = job.unique_states or frozenset({JobStatus.READY, JobStatus.RUNNING})
    return of.status in states and (job.unique_for is None or of.enqueued_at > now - job.unique_for)


def concurrency_limits(jobs: Sequence[NewJob]) -> list[tuple[str, int]]:
    """(key, how many may run at once) as these jobs declare it."""
    return [
        (job.concurrency_key, job.concurrency or 1)
        for job in jobs
        if job.concurrency_key is not None
    ]


def rate_limits(jobs: Sequence[NewJob]) -> list[tuple[str, int, float]]:
    """(key, how many may start, in so many seconds) as these jobs declare it."""
    return [
        (job.rate_key, job.rate.count, job.rate.window_seconds)
        for job in jobs
        if job.rate_key is not None and job.rate is not None
    ]
