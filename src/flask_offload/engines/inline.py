"""The inline engine: a job runs at once, where it is enqueued. For tests.

Arguments and results go through the same JSON as everywhere, so that what can't travel is seen.
Retries follow at once, without their waits; `run_after` is not waited for.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..attempt import Claim, Ending, Outcome, Report
from ..errors import JobNotFound
from ..job import Attempt, JobRecord, JobStatus, check_transition, moment
from ..run import run
from .base import Engine, Flags, JobQuery, NewJob

if TYPE_CHECKING:
    from ..state import AppState

KEPT = 1000
"""Finished jobs that are remembered."""


class InlineEngine(Engine):
    """Runs each job inside enqueue()."""

    name = "inline"
    flags: ClassVar[Flags] = Flags(lists=True, retries=True, priorities=True, limits=True)

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._jobs: OrderedDict[str, tuple[NewJob, JobRecord]] = OrderedDict()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Run the jobs, one after the other."""
        return [self._run(job, self._accept(job)) for job in jobs]

    def get(self, job_id: str) -> JobRecord:
        """Raises JobNotFound."""
        return self._find(job_id)[1]

    def list(self, query: JobQuery) -> list[JobRecord]:
        """The newest first."""
        with self._lock:
            records = [record for _, record in reversed(self._jobs.values())]
        found = [
            record
            for record in records
            if (query.status is None or record.status is query.status)
            and (query.task is None or record.task == query.task)
            and (query.queue_name is None or record.queue_name == query.queue_name)
            and (query.owner is None or record.owner == query.owner)
        ]
        return found[query.offset : query.offset + query.limit]

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        counts = dict.fromkeys(JobStatus, 0)
        for _, record in list(self._jobs.values()):
            counts[record.status] += 1
        return counts

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """There is nothing left to cancel: raises InvalidTransition."""
        _, record = self._find(job_id)
        check_transition(record.status, JobStatus.CANCELLED, job_id)
        return record

    def retry(self, job_id: str) -> JobRecord:
        """Run it again, at once."""
        job, record = self._find(job_id)
        check_transition(record.status, JobStatus.READY, job_id)
        return self._run(job, record)

    def _find(self, job_id: str) -> tuple[NewJob, JobRecord]:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobNotFound(f"there is no job {job_id!r} in this process") from None

    def _accept(self, job: NewJob) -> JobRecord:
        record = JobRecord(
            id=job.id,
            task=job.task,
            queue_name=job.queue_name,
            priority=job.priority,
            status=JobStatus.READY,
            enqueued_at=job.enqueued_at,
            run_after=job.run_after,
            owner=job.owner,
            origin=job.origin,
            attempts=[],
        )
        with self._lock:
            self._jobs[job.id] = (job, record)
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        return record

    def _run(self, job: NewJob, record: JobRecord) -> JobRecord:
        failures = 0
        cursor = None

        def emit(report: Report) -> None:
            nonlocal cursor
            record.done, record.total, record.message = report.done, report.total, report.message
            cursor = report.cursor or cursor

        environment = self._state.environment
        while True:
            record.status = JobStatus.RUNNING
            record.attempt += 1
            claim = Claim(
                next(self._numbers),
                job.id,
                job.task,
                job.queue_name,
                job.lane,
                job.priority,
                record.attempt,
                failures,
                0,
                job.on_crash,
                job.owner,
                job.origin,
                job.enqueued_at,
                self._state.clock(),
                job.args,
                job.context,
                cursor,
            )
            context = environment.context(claim, emit)
            outcome = run(environment, context)
            if context.is_dirty:
                context.flush()
            _note(record, outcome)
            if outcome.ending is not Ending.RETRY:
                return record
            failures += 1


def _note(record: JobRecord, outcome: Outcome) -> None:
    record.attempts.append(
        Attempt(
            number=outcome.attempt,
            worker="inline",
            started_at=moment(outcome.started_at),
            finished_at=moment(outcome.finished_at),
            outcome=str(outcome.ending),
            error=outcome.error,
        )
    )
    record.started_at, record.error = outcome.started_at, outcome.error
    if outcome.ending is not Ending.RETRY:
        record.status = JobStatus(str(outcome.ending))
        record.finished_at, record.result = outcome.finished_at, outcome.result
