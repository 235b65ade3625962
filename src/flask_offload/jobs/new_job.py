"""A job that is about to be enqueued, and its lane: which part of a worker will run it."""

from __future__ import annotations

import msgspec

from .attempt import Claim
from .job import JobRecord, JobStatus
from .options import EnqueuedBy, JobOptions, encoded
from .rate import Rate

MIN_PRIORITY, MAX_PRIORITY = -100, 100

THREADS, ASYNC, ISOLATED, QUARANTINED = "threads", "async", "isolated", "quarantined"
"""The lanes of a worker. Each has a capacity of its own, so that none can block another."""
ALONE = (ISOLATED, QUARANTINED)
"""Lanes that run each job in a process of its own. A quarantined job fails at its next crash."""


class NewJob(msgspec.Struct, kw_only=True):
    """A job that is about to be enqueued. Times are unix seconds, durations seconds."""

    id: str
    task: str
    queue_name: str
    priority: int
    enqueued_at: float
    args: str
    """The encoded arguments (JSON)."""
    run_after: float | None = None
    lane: str = THREADS
    on_crash: str = "retry"
    owner: str | None = None
    origin: str = "enqueue"
    has_given_id: bool = False
    """Whether the id is known already, as that of a job from an outbox: a store then keeps it."""
    context: str | None = None
    """The values that `@offload.carry` saved (JSON)."""
    files: tuple[str, ...] = ()
    unique_key: str | None = None
    unique_for: float | None = None
    unique_states: frozenset[JobStatus] | None = None
    concurrency: int | None = None
    concurrency_key: str | None = None
    rate: Rate | None = None
    rate_key: str | None = None
    options: JobOptions | None = None
    enqueued_by: EnqueuedBy | None = None

    def record(self, *, waiting_for: str | None = None) -> JobRecord:
        """The job's record right after it was enqueued."""
        return JobRecord(
            id=self.id,
            task=self.task,
            queue_name=self.queue_name,
            priority=self.priority,
            status=JobStatus.READY,
            enqueued_at=self.enqueued_at,
            run_after=self.run_after,
            owner=self.owner,
            origin=self.origin,
            waiting_for=waiting_for,
            enqueued_by=self.enqueued_by,
        )

    def claim(
        self,
        *,
        seq: int,
        attempt: int,
        claimed_at: float,
        failures: int = 0,
        crashes: int = 0,
        cursor: str | None = None,
    ) -> Claim:
        """A claim of the job, for `run`.

        seq: a number chosen by the engine. attempt: from 1. failures, crashes: of earlier attempts.
        cursor: the last checkpoint of an earlier attempt (JSON).
        """
        return Claim(
            seq=seq,
            id=self.id,
            task=self.task,
            queue_name=self.queue_name,
            lane=self.lane,
            priority=self.priority,
            attempt=attempt,
            failures=failures,
            crashes=crashes,
            on_crash=self.on_crash,
            owner=self.owner,
            origin=self.origin,
            enqueued_at=self.enqueued_at,
            claimed_at=claimed_at,
            args=self.args,
            context=self.context,
            cursor=cursor,
            options=encoded(self.options),
        )
