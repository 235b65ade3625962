"""A job on its way into an engine, and the lane of a worker in which it will run."""

from __future__ import annotations

import msgspec

from .attempt import Claim
from .job import JobRecord, JobStatus
from .rate import Rate

MIN_PRIORITY, MAX_PRIORITY = -100, 100

THREADS, ASYNC, ISOLATED, SUSPECT = "threads", "async", "isolated", "suspect"
"""The lanes: where in a worker a job runs. Each has room of its own, so none can block another."""
ALONE = (ISOLATED, SUSPECT)
"""Those whose jobs have a process of their own. A suspect is a job that the next crash ends."""


class NewJob(msgspec.Struct, kw_only=True):
    """A job on its way into an engine. Times are unix seconds, durations seconds."""

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
    context: str | None = None
    """What `@offload.carry` saved (JSON)."""
    files: tuple[str, ...] = ()
    unique_key: str | None = None
    unique_for: float | None = None
    unique_states: frozenset[JobStatus] | None = None
    concurrency: int | None = None
    concurrency_key: str | None = None
    rate: Rate | None = None
    rate_key: str | None = None

    def record(self, *, waiting_for: str | None = None) -> JobRecord:
        """The job as it stands when it has just been accepted."""
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
        """An attempt at the job, as `run` takes it.

        seq: a number of the engine's own. attempt: from 1. failures, crashes: of earlier attempts.
        cursor: where an earlier attempt has left off (JSON).
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
        )
