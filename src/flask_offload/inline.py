"""The inline engine: a job runs at once, where it is enqueued. For tests, and for a small
installation of an app that has no queue.

It is as honest as it can be: arguments and results go through the same JSON as everywhere, and the
job sees nothing of the request that enqueued it. Retries follow at once, without their waits. A job
with a future `run_after` waits until `flask_offload.testing.drain` finds it due.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec

from .engines.base import Engine, Flags, JobQuery, QueueInfo
from .engines.new_rows import is_duplicate
from .engines.run import run
from .errors import JobNotFound
from .jobs.attempt import Claim, Outcome, Report
from .jobs.failure import failure_job
from .jobs.job import Attempt, JobRecord, JobStatus, moment
from .jobs.job_log import MAX_ATTEMPTS
from .jobs.new_job import NewJob
from .jobs.transition import check_cancel, check_retry, follow

if TYPE_CHECKING:
    from .engines.host import Host

Errors: TypeAlias = list[BaseException]
KEPT = 1000
"""Finished jobs that are remembered."""


@dataclass
class InlineJob:
    """A job, and what it has stored. logs: by attempt."""

    job: NewJob
    record: JobRecord
    steps: dict[str, str] = field(default_factory=dict)
    logs: dict[int, str] = field(default_factory=dict)
    cursor: str | None = None


class InlineEngine(Engine):
    """Runs each job inside enqueue()."""

    name = "inline"
    flags: ClassVar[Flags] = Flags(
        deferred=True,
        priorities=True,
        lists=True,
        cancels_waiting=True,
        retries=True,
        discards=True,
        unique=True,
        steps=True,
        logs=True,
        on_failure=True,
        transactional_batches=True,
    )
    ignores: ClassVar[frozenset[str]] = frozenset(
        {"isolates", "limits", "schedules", "alerts", "retention", "own_worker", "outbox"}
    )

    def __init__(self, state: Host) -> None:
        self._state = state
        self._jobs: dict[str, InlineJob] = {}
        self._unique: dict[str, str] = {}  # key -> id of the job that holds it
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Run the jobs that are due, one after the other. With OFFLOAD_INLINE_RAISE_ERRORS, raises
        what ended the first of them FAILED, when all have run."""
        with self._lock:
            if len({job.id for job in jobs}) < len(jobs):
                raise ValueError("two of these jobs have the same id")
            records = [self._accept(job).record for job in jobs]
        new = {record.id for record in records if not record.is_duplicate}
        errors: Errors = []
        while self._run_one_of(lambda record: record.id in new, errors):
            pass
        if errors and self._state.config.inline_raise_errors:
            raise errors[0]
        return [record if record.is_duplicate else _copy(record) for record in records]

    def run_next(self, queue_name: str | None = None) -> str | None:
        """Run the next waiting job; its id, None if none is due."""
        record = self._run_one_of(lambda record: queue_name in (None, record.queue_name))
        return None if record is None else record.id

    def next_due(self) -> float | None:
        """When the next waiting job is due (unix seconds)."""
        waiting = [r.run_after or 0.0 for r in self._records() if r.status is JobStatus.READY]
        return min(waiting, default=None)

    def get(self, job_id: str) -> JobRecord:
        """Raises JobNotFound."""
        return _copy(self._find(job_id).record)

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key."""
        kept = self._jobs.get(self._unique.get(key, ""))
        return None if kept is None else _copy(kept.record)

    def list(self, query: JobQuery) -> list[JobRecord]:
        """The newest first."""
        names = ("status", "task", "queue_name", "owner")
        wanted = {name: value for name in names if (value := getattr(query, name)) is not None}
        found = [
            record
            for record in reversed(self._records())
            if all(getattr(record, name) == value for name, value in wanted.items())
        ]
        shown = found[query.offset : query.offset + query.limit]
        return [msgspec.structs.replace(_copy(record), result=None) for record in shown]

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job. Raises JobNotFound."""
        return self._find(job_id).job.args

    def log(self, job_id: str) -> Sequence[tuple[int, str]]:
        """See Engine.log."""
        return sorted(self._find(job_id).logs.items())

    def checkpoint(self, job_id: str) -> str | None:
        """See Engine.checkpoint."""
        return self._find(job_id).cursor

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        with self._lock:
            return [job_id for job_id in self._jobs if job_id.startswith(beginning)][:2]

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        return dict.fromkeys(JobStatus, 0) | Counter(record.status for record in self._records())

    def queues(self) -> Sequence[QueueInfo]:
        """Every queue of the jobs that are remembered."""
        records = self._records()
        counts = Counter((record.queue_name, record.status) for record in records)
        return [
            QueueInfo(
                name=name,
                ready=counts[name, JobStatus.READY],
                running=counts[name, JobStatus.RUNNING],
                paused_at=None,
            )
            for name in sorted({record.queue_name for record in records})
        ]

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """See Engine.step."""
        kept = self._jobs.get(claim.id)
        if kept is None:  # the task itself has cleared the engine
            return False, None
        steps = kept.steps
        if value is not None:
            steps[name] = value
        return True, steps.get(name)

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job. Raises UnsupportedByEngine for a running one."""
        record = self._find(job_id).record
        check_cancel(record.status, job_id)
        if record.status is JobStatus.RUNNING:
            raise self.unsupported("cancels_running")
        record.status, record.finished_at = JobStatus.CANCELLED, self._state.clock()
        return _copy(record)

    def retry(self, job_id: str) -> JobRecord:
        """Run it again, at once."""
        kept = self._find(job_id)
        record = kept.record
        check_retry(record.status, job_id)
        record.status, record.run_after, record.finished_at = JobStatus.READY, None, None
        record.done = record.total = record.message = None
        return _copy(self._run(kept))

    def discard_many(self, ids: Sequence[str]) -> int:
        """Forget those of these jobs that have ended."""
        with self._lock:
            ended = {i for i in ids if i in self._jobs and self._has_ended(i)}
            for job_id in ended:
                del self._jobs[job_id]
        return len(ended)

    def clear(self) -> None:
        """Forget every job."""
        with self._lock:
            self._jobs.clear()
            self._unique.clear()

    # --- accept ---

    def _find(self, job_id: str) -> InlineJob:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobNotFound(f"there is no job {job_id!r} in this process") from None

    def _records(self) -> Sequence[JobRecord]:
        """The oldest first."""
        with self._lock:
            return [kept.record for kept in self._jobs.values()]

    def _accept(self, job: NewJob) -> InlineJob:
        if job.unique_key is not None:
            holder = self._jobs.get(self._unique.get(job.unique_key, ""))
            if holder is not None and is_duplicate(job, holder.record, self._state.clock()):
                return InlineJob(
                    job, msgspec.structs.replace(_copy(holder.record), is_duplicate=True)
                )
            self._unique[job.unique_key] = job.id
        waiting_for = None if self._is_due(job.run_after) else "its time"
        kept = self._jobs[job.id] = InlineJob(job, job.record(waiting_for=waiting_for))
        surplus = max(0, len(self._jobs) - KEPT)
        for job_id in list(itertools.islice(filter(self._has_ended, self._jobs), surplus)):
            del self._jobs[job_id]
        return kept

    def _has_ended(self, job_id: str) -> bool:
        return self._jobs[job_id].record.status.is_finished

    # --- run ---

    def _is_due(self, run_after: float | None) -> bool:
        return run_after is None or run_after <= self._state.clock()

    def _run_one_of(
        self, wanted: Callable[[JobRecord], bool], errors: Errors | None = None
    ) -> JobRecord | None:
        """Run one that is due: of the highest priority the oldest. errors: what ended it FAILED is
        appended."""
        with self._lock:
            due = [
                kept
                for kept in self._jobs.values()
                if kept.record.status is JobStatus.READY
                and wanted(kept.record)
                and self._is_due(kept.record.run_after)
            ]
            if not due:
                return None
            kept = max(due, key=lambda kept: kept.record.priority)
            kept.record.status = JobStatus.RUNNING  # now no other thread takes it
        return self._run(kept, errors)

    def _run(self, kept: InlineJob, errors: Errors | None = None) -> JobRecord:
        job, record, failures = kept.job, kept.record, 0
        record.waiting_for = None

        def emit(report: Report) -> None:
            record.done, record.total, record.message = report.done, report.total, report.message
            if report.cursor is not None:
                kept.cursor = report.cursor
            if report.log is not None:
                kept.logs[report.attempt] = report.log
                kept.logs.pop(report.attempt - MAX_ATTEMPTS, None)

        environment = self._state
        while True:
            record.status = JobStatus.RUNNING
            record.attempt += 1
            claim = job.claim(
                seq=next(self._numbers),
                attempt=record.attempt,
                claimed_at=self._state.clock(),
                failures=failures,
                cursor=kept.cursor,
            )
            context = environment.context(claim, emit)
            # a context of its own: the job sees nothing of its caller's request, nor leaves traces
            outcome = Context().run(run, environment, context)
            context.finish()
            status = _record_outcome(record, outcome)
            if status is JobStatus.FAILED and errors is not None and context.exception is not None:
                errors.append(context.exception)
            if status is JobStatus.FAILED and self._state.has_on_failure(record.task):
                now = self._state.clock()
                follower = failure_job(job.id, job.queue_name, job.context, now)
                self._run(self._accept(follower))
            if status.is_finished:
                return record
            failures += 1


def _copy(record: JobRecord) -> JobRecord:
    """The job as it is now; later changes don't appear in it."""
    return msgspec.structs.replace(record, attempts=[*record.attempts])


def _record_outcome(record: JobRecord, outcome: Outcome) -> JobStatus:
    """Write down what follows the attempt; the job's new status."""
    what = follow(outcome)
    record.attempts.append(
        Attempt(
            number=outcome.attempt,
            worker="inline",
            started_at=moment(outcome.started_at),
            finished_at=moment(outcome.finished_at),
            outcome=str(outcome.ending),
            error=what.error,
        )
    )
    record.started_at, record.error, record.status = outcome.started_at, what.error, what.status
    if what.status.is_finished:
        record.finished_at, record.result = outcome.finished_at, outcome.result
    return what.status
