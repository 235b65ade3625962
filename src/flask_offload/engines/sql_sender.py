"""The sender half that both SQL engines share: enqueue, look up, cancel, retry.

Each store adds how it inserts, finds and admits jobs (`SqlFunctions`), and how it wakes workers.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from ..config import Config
from ..jobs.attempt import Claim
from ..jobs.job import JobRecord, JobStatus
from ..jobs.new_job import NewJob
from ..jobs.options import options_of
from ..jobs.transition import check_cancel, check_retry
from . import counters
from .attempt_writes import SqlConnection
from .base import Engine
from .dialect import Dialect
from .new_rows import concurrency_limits, is_duplicate, rate_limits
from .rows import COLUMNS, DUE_STATE, STATUS, WAITING_FOR, record

FOUND = f"SELECT {COLUMNS} FROM offload.jobs WHERE unique_key = ?"
FREE_KEY = "UPDATE offload.jobs SET unique_key = NULL WHERE seq = ?"
OPTIONS = "SELECT options FROM offload.jobs WHERE seq = ?"
ASK_TO_STOP = "UPDATE offload.jobs SET cancel = ? WHERE seq = ? AND cancel < ?"
LOG = "SELECT attempt, lines FROM offload.logs WHERE seq = ? ORDER BY attempt"

CANCEL = """
UPDATE offload.jobs SET state = 'cancelled', finished_at = ?, expires_at = ? WHERE seq = ?
RETURNING concurrency_key, rate_key
"""

RETRY = f"""
UPDATE offload.jobs SET failures = 0, crashes = 0, cancel = 0, worker = NULL, run_after = NULL,
    finished_at = NULL, expires_at = NULL, done = NULL, total = NULL, message = NULL,
    state = {DUE_STATE}
WHERE seq = ? RETURNING concurrency_key, rate_key
"""

HOLDS = "seq = ? AND attempt = ? AND state = 'running'"
"""An attempt that has started is not given back, so its number is its fence."""
SAVE_STEP = f"""
INSERT INTO offload.steps (seq, name, value)
SELECT seq, CAST(? AS text), CAST(? AS text) FROM offload.jobs WHERE {HOLDS} FOR UPDATE
ON CONFLICT (seq, name) DO UPDATE SET value = excluded.value RETURNING 1
"""
STEP = f"""
SELECT (SELECT value FROM offload.steps WHERE steps.seq = jobs.seq AND name = ?)
FROM offload.jobs WHERE {HOLDS}
"""

Row = tuple[Any, ...]
T = TypeVar("T")
C = TypeVar("C", bound=SqlConnection)
C_co = TypeVar("C_co", bound=SqlConnection, covariant=True)


class SqlDatabase(Protocol[C_co]):
    """Runs work inside a transaction. promise: whether its commit waits for the disk."""

    def write(self, work: Callable[[C_co], T], *, promise: bool = True) -> T: ...
    def read(self, work: Callable[[C_co], T]) -> T: ...


@dataclass(frozen=True)
class SqlFunctions(Generic[C]):
    """What each store does in its own way, inside a transaction. Rows are of COLUMNS.

    find: one job's row, which no other transaction changes meanwhile.
    full: its number, and its record with attempts and the result. records: with attempts.
    admit: jobs of these keys of limits. admit_queue, give_capacity_back: of a resumed and of a
    paused queue. keep_limits: write down the limits of concurrency and of rates.
    """

    find: Callable[[C, str], Row]
    full: Callable[[C, str, float], tuple[int, JobRecord]]
    records: Callable[[C, list[Row]], list[JobRecord]]
    admit: Callable[[C, float, list[str | None], list[str | None]], None]
    admit_queue: Callable[[C, float, str], None]
    give_capacity_back: Callable[[C, float, str], None]
    keep_limits: Callable[[C, Sequence[tuple[str, int]], Sequence[tuple[str, int, float]]], None]


class SqlSender(Engine, Generic[C]):
    """What an app asks of a database with its jobs. Every method may raise the subclasses of
    EngineUnavailable."""

    dialect: ClassVar[Dialect]

    @classmethod
    @abstractmethod
    def open(cls, database: str, config: Config, **given: Any) -> Self:
        """The engine with these settings. given: as for the constructor."""

    def __init__(
        self,
        database: SqlDatabase[C],
        functions: SqlFunctions[C],
        keep_cancelled: Callable[[str], float],
        clock: Callable[[], float],
    ) -> None:
        self.database: SqlDatabase[C] = database
        self.clock = clock
        self._do = functions
        self._keep_cancelled = keep_cancelled
        self._enqueues = counters.EnqueueTally()

    # --- accept ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs in one transaction, then notify the workers."""
        if not jobs:
            return []
        now, began = self.clock(), time.perf_counter()
        due = self._enqueues.take(began)

        def work(connection: C) -> list[JobRecord]:
            records = self.insert(connection, jobs, now)
            if due:
                counters.count_enqueues(connection, self.dialect, due, now)
            return records

        try:
            records = self.accept(jobs, work)
        except BaseException:
            self._enqueues.give_back(due)
            raise
        self._enqueues.add(time.perf_counter() - began)
        return records

    @abstractmethod
    def accept(
        self, jobs: Sequence[NewJob], work: Callable[[C], list[JobRecord]]
    ) -> list[JobRecord]:
        """Run `work`, which inserts these jobs, in a transaction, and wake the workers once it is
        committed."""

    @abstractmethod
    def insert(self, connection: C, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
        """The work of enqueue() inside a transaction of the caller."""

    @abstractmethod
    def write_and_notify(self, work: Callable[[C], T], *, inserts: bool = False) -> T:
        """Run `work` in a transaction, and wake the workers once it is committed. inserts: what it
        does for them is to call `insert`."""

    def holder(self, connection: C, job: NewJob, now: float) -> JobRecord | None:
        """The job that already holds this job's unique key; None, and the key is free, if there is
        none."""
        if job.unique_key is None:
            return None
        row = self._one(connection, f"{FOUND} FOR UPDATE", job.unique_key)
        if row is None:
            return None
        found = record(row)
        if is_duplicate(job, found, now):
            found.is_duplicate = True
            return found
        connection.execute(self.dialect.sql(FREE_KEY), (row[0],))
        return None

    def admit_new(
        self, connection: C, jobs: Sequence[NewJob], records: Sequence[JobRecord], now: float
    ) -> None:
        """Let new jobs with limits through, as far as these allow, and note it in their records."""
        self._do.keep_limits(connection, concurrency_limits(jobs), rate_limits(jobs))
        keys = [job.concurrency_key for job in jobs], [job.rate_key for job in jobs]
        self._do.admit(connection, now, *keys)
        for found in records:
            found.waiting_for = WAITING_FOR.get(self._do.find(connection, found.id)[5])

    # --- look up ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        now = self.clock()
        return self.database.read(lambda connection: self._do.full(connection, job_id, now)[1])

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key."""
        row = self.database.read(lambda connection: self._one(connection, FOUND, key))
        return record(row) if row else None

    def log(self, job_id: str) -> Sequence[tuple[int, str]]:
        """See Engine.log."""
        statement, now = self.dialect.sql(LOG), self.clock()

        def work(connection: C) -> Sequence[tuple[int, str]]:
            seq, _ = self._do.full(connection, job_id, now)
            return [(attempt, lines) for attempt, lines in connection.execute(statement, (seq,))]

        return self.database.read(work)

    # --- change ---

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """See Engine.step."""
        fence, sql = (claim.seq, claim.attempt), self.dialect.sql
        if value is not None:
            values = (name, value, *fence)
            self.database.write(lambda c: c.execute(sql(SAVE_STEP), values).fetchall())
        row = self.database.read(lambda connection: self._one(connection, STEP, name, *fence))
        return row is not None, None if row is None else row[0]

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job; ask the worker of a running one to stop it."""
        return self._change(job_id, lambda c, row, now: self._cancel(c, row, now, force))

    def retry(self, job_id: str) -> JobRecord:
        """Put a failed or cancelled job back in its queue, its counts of failures at nought."""
        return self._change(job_id, self._retry)

    def _change(self, job_id: str, change: Callable[[C, Row, float], None]) -> JobRecord:
        now = self.clock()

        def work(connection: C) -> JobRecord:
            change(connection, self._do.find(connection, job_id), now)
            return self._do.full(connection, job_id, now)[1]

        return self.write_and_notify(work)

    def _cancel(self, connection: C, row: Row, now: float, force: bool) -> None:
        status = STATUS[row[5]]
        check_cancel(status, row[1])
        if status is JobStatus.RUNNING:
            asked = 2 if force else 1
            connection.execute(self.dialect.sql(ASK_TO_STOP), (asked, row[0], asked))
            return
        own = options_of(self._one(connection, OPTIONS, row[0])[0])
        keep = own.keep_for(JobStatus.CANCELLED)
        keep = self._keep_cancelled(row[2]) if keep is None else keep
        concurrency_key, rate_key = self._one(connection, CANCEL, now, now + keep, row[0])
        self._do.admit(connection, now, [concurrency_key], [rate_key])
        counters.count_cancelled(connection, self.dialect, row[2], now)

    def _retry(self, connection: C, row: Row, now: float) -> None:
        check_retry(STATUS[row[5]], row[1])
        concurrency_key, rate_key = self._one(connection, RETRY, row[0])
        self._do.admit(connection, now, [concurrency_key], [rate_key])

    def _one(self, connection: C, statement: str, *bindings: Any) -> Any:
        """The first row of a statement; None if there is none."""
        return connection.execute(self.dialect.sql(statement), bindings).fetchone()
