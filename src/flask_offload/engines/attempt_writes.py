"""What became of attempts, written down inside a transaction of the caller.

Every write about an attempt is fenced: it counts only while that very attempt is still held by this
worker. What comes too late (from a worker that was stopped or given up) is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from ..jobs.attempt import Claim, Ending, Outcome, Report
from ..jobs.failure import failure_job
from ..jobs.job import Error, JobStatus
from ..jobs.job_log import MAX_ATTEMPTS
from ..jobs.new_job import QUARANTINED, NewJob
from ..jobs.transition import follow
from .alerts import JobEnd, note_ends
from .dialect import Dialect
from .rows import DUE_STATE, Freed
from .store import Retention

DIED = Error("WorkerDied", "the worker that ran the job died")


class HeldRow(NamedTuple):
    """What is read of a job before the outcome of its attempt is written."""

    seq: int
    id: str
    task: str
    queue_name: str
    lane: str
    concurrency_key: str | None
    rate_key: str | None
    failures: int
    crashes: int
    on_crash: str
    cancel: int
    enqueued_at: float
    run_after: float | None
    options: str | None
    context: str | None


HELD_COLUMNS = ", ".join(HeldRow._fields)


class Counted(NamedTuple):
    """An attempt for the counters. status: of its job afterwards. due_at: when it was to start."""

    outcome: Outcome
    task: str
    status: JobStatus
    due_at: float


FENCE = "seq = ? AND attempt = ? AND worker = ? AND state = 'running'"


class AttemptStatements(NamedTuple):
    """What AttemptWrites executes. All but the first follow it in the same transaction, or have the
    fence themselves."""

    held: str = f"SELECT {HELD_COLUMNS} FROM offload.jobs WHERE {FENCE} FOR UPDATE"
    end: str = """
UPDATE offload.jobs SET state = ?, failures = ?, crashes = ?, started_at = ?, finished_at = ?,
    expires_at = ?
WHERE seq = ?
"""
    ready_again: str = f"""
UPDATE offload.jobs SET worker = NULL, failures = ?, crashes = ?, started_at = ?, lane = ?,
    run_after = ?, state = CASE WHEN ? THEN 'scheduled' ELSE {DUE_STATE} END
WHERE seq = ?
"""
    unclaim: str = f"""
UPDATE offload.jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    run_after = coalesce(?, run_after),
    state = CASE WHEN ? THEN 'scheduled' ELSE {DUE_STATE} END
WHERE seq = ?
"""
    unclaim_cancelled: str = """
UPDATE offload.jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    state = 'cancelled', finished_at = ?, expires_at = ?
WHERE seq = ?
"""
    report: str = f"""
UPDATE offload.jobs SET done = ?, total = ?, message = ?, cursor = coalesce(?, cursor)
WHERE {FENCE}
"""
    attempt: str = """
INSERT INTO offload.attempts (seq, number, worker, started_at, finished_at, outcome, error_type,
    error_message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (seq, number) DO UPDATE SET worker = excluded.worker,
    started_at = excluded.started_at, finished_at = excluded.finished_at,
    outcome = excluded.outcome, error_type = excluded.error_type,
    error_message = excluded.error_message, traceback = excluded.traceback
"""
    log: str = f"""
INSERT INTO offload.logs (lines, seq, attempt)
SELECT CAST(? AS text), seq, attempt FROM offload.jobs WHERE {FENCE} FOR UPDATE
ON CONFLICT (seq, attempt) DO UPDATE SET lines = excluded.lines
"""
    forget_log: str = "DELETE FROM offload.logs WHERE seq = ? AND attempt <= ?"

    @classmethod
    def of(cls, dialect: Dialect) -> AttemptStatements:
        """In the words of one database."""
        return cls(*map(dialect.sql, cls()))


class SqlConnection(Protocol):
    """The connection of any store whose statements are SQL."""

    def execute(self, statement: str, parameters: tuple[Any, ...] = ..., /) -> Any: ...


C = TypeVar("C", bound=SqlConnection)


@dataclass
class AttemptWrites(ABC, Generic[C]):
    """One worker's writes about its attempts, in one transaction. now: unix seconds.

    A store writes successes, the frequent ones, in its own way.
    """

    sql: ClassVar[AttemptStatements]
    dialect: ClassVar[Dialect]

    connection: C
    worker_id: str
    retention: Retention
    now: float
    freed: Freed = field(default_factory=Freed)
    counted: list[Counted] = field(default_factory=list)
    insert: Callable[[C, Sequence[NewJob], float], object] | None = None
    """Enqueues jobs within the transaction."""

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write outcomes down; those that came too late."""
        successful = [each for each in outcomes if each.ending is Ending.SUCCESSFUL]
        done = self.succeed(successful) if successful else set()
        refused = [each for each in successful if (each.seq, each.attempt) not in done]
        for outcome in outcomes:
            if outcome.ending is not Ending.SUCCESSFUL and not self.finish_badly(outcome):
                refused.append(outcome)
        self._alert()
        return refused

    @abstractmethod
    def succeed(self, outcomes: Sequence[Outcome]) -> set[tuple[int, int]]:
        """Write successes down; (seq, attempt) of those that this worker still held."""

    @abstractmethod
    def take_back_start(self, rate_key: str) -> None:
        """What was claimed and has not started does not count as a start."""

    def unclaim(self, held: Claim | Outcome, *, delay: float = 0.0) -> None:
        """A job that was claimed and has not started is READY again, as if nothing had been;
        CANCELLED if it was asked to stop. delay: seconds before it may be claimed again."""
        row = self.connection.execute(self.sql.held, self.fence(held)).fetchone()
        if row is None:
            return
        job = HeldRow(*row)
        if job.cancel:
            keep = self.retention.unsuccessful(job.task, JobStatus.CANCELLED, job.options)
            values = (self.now, self.now + keep, held.seq)
            self.connection.execute(self.sql.unclaim_cancelled, values)
        else:
            run_after = self.now + delay if delay else None
            self.connection.execute(self.sql.unclaim, (run_after, bool(delay), held.seq))
        if job.rate_key is not None:
            self.take_back_start(job.rate_key)
        self.freed.add(job.concurrency_key, job.rate_key)

    def report(self, report: Report) -> None:
        """Record progress, a cursor and log lines."""
        fence = self.fence(report)
        if report.has_progress:
            values = (report.done, report.total, report.message, report.cursor)
            self.connection.execute(self.sql.report, (*values, *fence))
        if report.log is not None:
            self.connection.execute(self.sql.log, (report.log, *fence))
            oldest = report.attempt - MAX_ATTEMPTS
            if oldest > 0:
                self.connection.execute(self.sql.forget_log, (report.seq, oldest))

    def put_back(self, held: Iterable[tuple[int, int, float]], started: set[int] | None) -> None:
        """The worker has died: its jobs crashed, or, if they had not started, are given back.

        held: (seq, attempt, started_at). started: the numbers of those that had started; None if
        that can't be said.
        """
        for seq, attempt, began in held:
            crashed = Outcome(seq, attempt, Ending.CRASHED, began, self.now, error=DIED)
            if started is None or seq in started:
                self.finish_badly(crashed)
            else:
                self.unclaim(crashed)
        self._alert()

    def fence(self, held: Outcome | Claim | Report) -> tuple[int, int, str]:
        """What identifies an attempt of this worker."""
        return held.seq, held.attempt, self.worker_id

    def finish_badly(self, outcome: Outcome) -> bool:
        """Record an outcome that is no success; False if it came too late."""
        row = self.connection.execute(self.sql.held, self.fence(outcome)).fetchone()
        if row is None:
            return False
        held = HeldRow(*row)
        self.freed.add(held.concurrency_key, held.rate_key)
        what = follow(
            outcome,
            failures=held.failures,
            crashes=held.crashes,
            on_crash=held.on_crash,
            cancel_requested=bool(held.cancel),
        )
        self._note_attempt(outcome, what.error)
        self.count(outcome, held.task, what.status, held.enqueued_at, held.run_after)
        counts = (what.failures, what.crashes)
        if what.status is JobStatus.READY:
            is_later = what.after > 0
            run_after = self.now + what.after if is_later else None
            lane = QUARANTINED if what.is_quarantined else held.lane
            values = (*counts, outcome.started_at, lane, run_after, is_later)
            self.connection.execute(self.sql.ready_again, (*values, outcome.seq))
        else:
            keep = outcome.keep
            if keep is None:
                keep = self.retention.unsuccessful(held.task, what.status, held.options)
            times = (outcome.started_at, outcome.finished_at, self.now + keep)
            state = what.status.lower()
            self.connection.execute(self.sql.end, (state, *counts, *times, outcome.seq))
            if what.status is JobStatus.FAILED and held.task in self.retention.on_failure:
                assert self.insert is not None
                follower = failure_job(held.id, held.queue_name, held.context, self.now)
                self.insert(self.connection, [follower], self.now)
        return True

    def count(
        self,
        outcome: Outcome,
        task: str,
        status: JobStatus,
        enqueued_at: float,
        run_after: float | None,
    ) -> None:
        """Note an outcome for the counters."""
        due_at = max(enqueued_at, run_after or enqueued_at)
        self.counted.append(Counted(outcome, task, status, due_at))

    def _alert(self) -> None:
        """Enqueue the jobs that call OFFLOAD_ALERT, if it is set, for what has been counted."""
        silent = self.retention.silent
        if silent is None:
            return
        ended = [
            JobEnd(task, outcome.finished_at, status is JobStatus.FAILED, outcome.seq)
            for outcome, task, status, _ in self.counted
            if status in (JobStatus.FAILED, JobStatus.SUCCESSFUL) and task not in silent
        ]
        jobs = note_ends(self.connection.execute, self.dialect, ended, self.now) if ended else []
        if jobs:
            assert self.insert is not None
            self.insert(self.connection, jobs, self.now)

    def _note_attempt(self, outcome: Outcome, error: Error | None) -> None:
        self.connection.execute(
            self.sql.attempt,
            (
                outcome.seq,
                outcome.attempt,
                self.worker_id,
                outcome.started_at,
                outcome.finished_at,
                str(outcome.ending),
                error and error.type,
                error and error.message,
                error and error.traceback,
            ),
        )
