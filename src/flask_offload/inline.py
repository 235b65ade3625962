"""The inline engine: a job runs at once, where it is enqueued. For tests, and for a small
installation of an app that has no queue.

It is as honest as it can be: arguments and results go through the same JSON as everywhere, and the
job sees nothing of the request that enqueued it. Retries follow at once, without their waits. A job
with a future `run_after` waits until `flask_offload.testing.drain` finds it due.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import msgspec

from .engines.base import Engine, Flags, JobQuery, QueueInfo
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
UNIQUE_WHILE = frozenset({JobStatus.READY, JobStatus.RUNNING})


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
        self._jobs: OrderedDict[str, tuple[NewJob, JobRecord]] = OrderedDict()
        self._unique: dict[str, str] = {}  # key -> id of the job that holds it
        self._numbers = itertools.count(1)
        self._steps: dict[str, dict[str, str]] = {}
        self._logs: dict[str, dict[int, str]] = {}  # by id, then attempt
        self._cursors: dict[str, str] = {}
        self._lock = threading.RLock()

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Run the jobs that are due, one after the other. With OFFLOAD_INLINE_RAISE_ERRORS, raises
        what ended the first of them FAILED, when all have run."""
        with self._lock:
            if len({job.id for job in jobs}) < len(jobs):
                raise ValueError("two of these jobs have the same id")
            records = [self._accept(job) for job in jobs]
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
        with self._lock:
            waiting = [r for _, r in self._jobs.values() if r.status is JobStatus.READY]
        return min((record.run_after or 0.0 for record in waiting), default=None)

    def get(self, job_id: str) -> JobRecord:
        """Raises JobNotFound."""
        return _copy(self._find(job_id)[1])

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key."""
        _, record = self._jobs.get(self._unique.get(key, ""), (None, None))
        return None if record is None else _copy(record)

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
        shown = found[query.offset : query.offset + query.limit]
        return [msgspec.structs.replace(_copy(record), result=None) for record in shown]

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job. Raises JobNotFound."""
        return self._find(job_id)[0].args

    def log(self, job_id: str) -> Sequence[tuple[int, str]]:
        """See Engine.log."""
        self._find(job_id)
        return sorted(self._logs.get(job_id, {}).items())

    def checkpoint(self, job_id: str) -> str | None:
        """See Engine.checkpoint."""
        self._find(job_id)
        return self._cursors.get(job_id)

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        with self._lock:
            return [job_id for job_id in self._jobs if job_id.startswith(beginning)][:2]

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        counts = dict.fromkeys(JobStatus, 0)
        with self._lock:
            for _, record in self._jobs.values():
                counts[record.status] += 1
        return counts

    def queues(self) -> Sequence[QueueInfo]:
        """Every queue of the jobs that are remembered."""
        with self._lock:
            records = [record for _, record in self._jobs.values()]
        names = sorted({record.queue_name for record in records})

        def number(name: str, status: JobStatus) -> int:
            return sum(r.queue_name == name and r.status is status for r in records)

        return [
            QueueInfo(
                name=name,
                ready=number(name, JobStatus.READY),
                running=number(name, JobStatus.RUNNING),
                paused_at=None,
            )
            for name in names
        ]

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """See Engine.step."""
        steps = self._steps.setdefault(claim.id, {})
        if value is not None:
            steps[name] = value
        return True, steps.get(name)

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job. Raises UnsupportedByEngine for a running one."""
        _, record = self._find(job_id)
        check_cancel(record.status, job_id)
        if record.status is JobStatus.RUNNING:
            raise self.unsupported("cancels_running")
        record.status, record.finished_at = JobStatus.CANCELLED, self._state.clock()
        return _copy(record)

    def retry(self, job_id: str) -> JobRecord:
        """Run it again, at once."""
        job, record = self._find(job_id)
        check_retry(record.status, job_id)
        record.status, record.run_after, record.finished_at = JobStatus.READY, None, None
        record.done = record.total = record.message = None
        return _copy(self._run(job, record))

    def discard_many(self, ids: Sequence[str]) -> int:
        """Forget those of these jobs that have ended."""
        with self._lock:
            ended = [i for i in dict.fromkeys(ids) if i in self._jobs and self._has_ended(i)]
            for job_id in ended:
                self._forget(job_id)
        return len(ended)

    def clear(self) -> None:
        """Forget every job."""
        with self._lock:
            self._jobs.clear()
            self._unique.clear()
            self._steps.clear()
            self._logs.clear()
            self._cursors.clear()

    # --- accept ---

    def _find(self, job_id: str) -> tuple[NewJob, JobRecord]:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobNotFound(f"there is no job {job_id!r} in this process") from None

    def _accept(self, job: NewJob) -> JobRecord:
        if job.unique_key is not None:
            duplicate = self._duplicate(job, job.unique_key)
            if duplicate is not None:
                return msgspec.structs.replace(_copy(duplicate), is_duplicate=True)
            self._unique[job.unique_key] = job.id
        record = job.record(waiting_for=None if self._is_due(job.run_after) else "its time")
        self._jobs[job.id] = (job, record)
        self._forget_oldest()
        return record

    def _duplicate(self, job: NewJob, key: str) -> JobRecord | None:
        """The job that already stands for this key, if there is one."""
        _, record = self._jobs.get(self._unique.get(key, ""), (None, None))
        if record is None or record.status not in (job.unique_states or UNIQUE_WHILE):
            return None
        now = self._state.clock()
        recent = job.unique_for is None or record.enqueued_at > now - job.unique_for
        return record if recent else None

    def _forget_oldest(self) -> None:
        surplus = len(self._jobs) - KEPT
        if surplus > 0:
            finished = filter(self._has_ended, self._jobs)
            for job_id in list(itertools.islice(finished, surplus)):
                self._forget(job_id)

    def _has_ended(self, job_id: str) -> bool:
        return self._jobs[job_id][1].status.is_finished

    def _forget(self, job_id: str) -> None:
        del self._jobs[job_id]
        self._steps.pop(job_id, None)
        self._logs.pop(job_id, None)
        self._cursors.pop(job_id, None)

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
                (job, record)
                for job, record in self._jobs.values()
                if record.status is JobStatus.READY
                and wanted(record)
                and self._is_due(record.run_after)
            ]
            if not due:
                return None
            job, record = max(due, key=lambda kept: kept[1].priority)
            record.status = JobStatus.RUNNING  # now no other thread takes it
        return self._run(job, record, errors)

    def _run(self, job: NewJob, record: JobRecord, errors: Errors | None = None) -> JobRecord:
        failures = 0
        record.waiting_for = None

        def emit(report: Report) -> None:
            record.done, record.total, record.message = report.done, report.total, report.message
            if report.cursor is not None:
                self._cursors[job.id] = report.cursor
            if report.log is not None:
                logs = self._logs.setdefault(job.id, {})
                logs[report.attempt] = report.log
                logs.pop(report.attempt - MAX_ATTEMPTS, None)

        environment = self._state
        while True:
            record.status = JobStatus.RUNNING
            record.attempt += 1
            claim = job.claim(
                seq=next(self._numbers),
                attempt=record.attempt,
                claimed_at=self._state.clock(),
                failures=failures,
                cursor=self._cursors.get(job.id),
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
                self._run(follower, self._accept(follower))
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
