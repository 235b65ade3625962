"""The sender half of the PostgreSQL engine: accept, look up, cancel, retry, list, pause."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from ...errors import InvalidTransition, JobNotFound
from ...jobs.attempt import Claim
from ...jobs.job import JobRecord, JobStatus
from ...jobs.new_job import NewJob
from ...jobs.options import options_of
from ...jobs.transition import check_cancel, check_retry
from .. import counters
from ..base import (
    LOOK,
    Engine,
    FailureGroup,
    Flags,
    JobPage,
    JobQuery,
    QueueInfo,
    ScheduleInfo,
)
from ..counter_row import CounterRow
from ..dialect import POSTGRES
from ..job_search import Search
from ..new_rows import (
    NEW_COLUMNS,
    concurrency_limits,
    first_state,
    is_duplicate,
    new_record,
    new_row,
    rate_limits,
)
from ..rows import COLUMNS, DUE_STATE, SECRET_LENGTH, STATUS, WAITING_FOR, record
from . import queries
from .connection import PgConnection
from .database import ConnectionStack
from .limits import admit, admit_queue, give_capacity_back, keep_limits, lock_limits
from .rows import find, full
from .schema import SIDE_TABLES
from .steps import step

TYPES = (
    *("text", "text", "text", "text", "int", "text", "text", "text", "text", "float8"),
    *("float8", "text", "text", "text", "text", "text", "text", "text", "text"),
)

INSERT = f"""
WITH new AS (
    INSERT INTO offload.jobs ({NEW_COLUMNS})
    VALUES ({", ".join(["%s"] * len(TYPES))}) ON CONFLICT DO NOTHING RETURNING seq
)
SELECT seq, pg_notify(%s, '') FROM new
"""

INSERT_MANY = f"""
INSERT INTO offload.jobs ({NEW_COLUMNS})
SELECT {NEW_COLUMNS} FROM unnest({", ".join(f"%s::{kind}[]" for kind in TYPES)}) WITH ORDINALITY
    AS new ({NEW_COLUMNS}, place) ORDER BY place
RETURNING secret, seq
"""

NOTIFY = "SELECT pg_notify(%s, '')"
KNOW_QUEUE = "INSERT INTO offload.queues (name) VALUES (%s) ON CONFLICT DO NOTHING"
IS_THERE = "SELECT count(*) FROM offload.jobs WHERE seq = ANY(%s::bigint[])"

FOUND = f"SELECT {COLUMNS} FROM offload.jobs WHERE unique_key = %s"
HOLDER = f"{FOUND} FOR UPDATE"
FREE_KEY = "UPDATE offload.jobs SET unique_key = NULL WHERE seq = %s"

OPTIONS = "SELECT options FROM offload.jobs WHERE seq = %s"

ASK_TO_STOP = "UPDATE offload.jobs SET cancel = greatest(cancel, %s) WHERE seq = %s"

CANCEL = """
UPDATE offload.jobs SET state = 'cancelled', finished_at = %s, expires_at = %s WHERE seq = %s
RETURNING concurrency_key, rate_key
"""

RETRY = f"""
UPDATE offload.jobs SET failures = 0, crashes = 0, cancel = 0, worker = NULL, run_after = NULL,
    finished_at = NULL, expires_at = NULL, done = NULL, total = NULL, message = NULL,
    state = {DUE_STATE}
WHERE seq = %s RETURNING concurrency_key, rate_key
"""

JOB_TABLES = ("jobs", *SIDE_TABLES, "limits", "starts", "schedules")


Change = Callable[[PgConnection, tuple[Any, ...], float], None]
"""Changes one job: given its row of COLUMNS and the time."""


class PostgresSender(Engine):
    """What an app asks of its PostgreSQL database. Every method may raise the subclasses of
    EngineUnavailable.

    keep_cancelled: seconds that a job of a task, given by name, is kept when `cancel` ends it.
    clock: unix seconds; tests travel in time with it.
    """

    name = "postgres"
    flags: ClassVar[Flags] = Flags(
        **{**dict.fromkeys(Flags.names(), True), "files": False, "outbox": False}
    )

    def __init__(
        self,
        url: str,
        schema: str = "offload",
        *,
        durable: bool = True,
        timeout: float = 2.0,
        direct_url: str | None = None,
        keep_cancelled: Callable[[str], float] = lambda task: 30 * 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database: ConnectionStack = ConnectionStack(
            url,
            schema,
            durable=durable,
            timeout=timeout,
            prepares=direct_url is None,  # with a pooler in between
        )
        self.direct_url = direct_url
        self.channel: str = f"{schema} jobs"
        """Where workers listen for work."""
        self.clock = clock
        self._keep_cancelled = keep_cancelled
        self._known_queues: set[str] = set()
        self._known_in = -1  # the database's generation of which we know them

    # --- accept ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs in one transaction, whose commit notifies the workers."""
        if not jobs:
            return []
        now = self.clock()
        records = self.database.write(
            lambda connection: self.insert(connection, jobs, now), confirm=_are_there
        )
        self._known_queues.update(job.queue_name for job in jobs)
        return records

    def insert(
        self, connection: PgConnection, jobs: Sequence[NewJob], now: float
    ) -> list[JobRecord]:
        """The work of enqueue() inside a transaction of the caller."""
        self._know_queues(connection, jobs)
        if not jobs:
            return []
        is_limited = any(
            job.concurrency_key is not None or job.rate_key is not None for job in jobs
        )
        if len(jobs) == 1 or any(job.unique_key is not None for job in jobs):
            # one by one, as one may be another's duplicate
            records = [self._insert_one(connection, job, now) for job in jobs]
        else:
            records = _insert_many(connection, jobs, now)
            self.notify(connection)
        if is_limited:
            _admit_new(connection, jobs, now)
            for found in records:
                found.waiting_for = WAITING_FOR.get(find(connection, found.id)[5])
        return records

    def notify(self, connection: PgConnection) -> None:
        """Wake the workers when the transaction is committed."""
        connection.execute(NOTIFY, (self.channel,))

    def _know_queues(self, connection: PgConnection, jobs: Iterable[NewJob]) -> None:
        if self._known_in != self.database.generation:  # the tables may have been made anew
            self._known_in = self.database.generation
            self._known_queues.clear()
        for name in sorted({job.queue_name for job in jobs} - self._known_queues):
            connection.execute(KNOW_QUEUE, (name,))

    def _insert_one(self, connection: PgConnection, job: NewJob, now: float) -> JobRecord:
        state = first_state(job, now)
        while True:
            row = (*new_row(job, state, job.args), self.channel)
            found = connection.execute(INSERT, row).fetchone()
            if found is not None:
                return new_record(job, found[0], state)
            existing = _existing(connection, job, now)
            if existing is not None:
                return existing

    # --- look up ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        now = self.clock()
        return self.database.read(lambda connection: full(connection, job_id, now)[1])

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key."""
        row = self.database.read(lambda connection: connection.execute(FOUND, (key,)).fetchone())
        return record(row) if row else None

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs with their attempts, without their results, newest first."""
        return self.database.read(lambda connection: queries.list_jobs(connection, query))

    def page(self, query: JobQuery, look: int = LOOK) -> JobPage:
        """Jobs without their results, newest first, in a bounded time."""
        return self.database.read(lambda connection: queries.page(connection, query, look))

    def matching(self, query: JobQuery, look: int = LOOK) -> tuple[int, bool]:
        """How many of the jobs that `page` would look at match, and whether there are more."""
        return self.database.read(lambda c: Search(c, POSTGRES).matching(query, look))

    def failures(self, look: int = LOOK) -> Sequence[FailureGroup]:
        """The newest FAILED jobs by task and type of error."""
        return self.database.read(lambda c: Search(c, POSTGRES).failures(look))

    def waiting_since(self) -> float | None:
        """Since when the job that is first in line waits (unix seconds)."""
        return self.database.read(lambda c: Search(c, POSTGRES).waiting_since())

    def counters(self, since: float) -> Sequence[CounterRow]:
        """What became of attempts since this moment (unix seconds), by the minute."""
        return self.database.read(lambda connection: counters.read(connection, POSTGRES, since))

    def totals(self) -> Sequence[CounterRow]:
        """What became of all attempts, by task."""
        return self.database.read(lambda connection: counters.totals(connection, POSTGRES))

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        return self.database.read(lambda connection: queries.arguments(connection, job_id))

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        return self.database.read(lambda connection: queries.ids(connection, beginning))

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        return self.database.read(queries.count)

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""
        return self.database.read(queries.queues)

    def schedules(self) -> Sequence[ScheduleInfo]:
        """Every schedule that a worker has ever seen."""
        return self.database.read(queries.schedules)

    # --- steps ---

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """See Engine.step."""
        return step(self.database, claim, name, value)

    # --- change ---

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job; ask the worker of a running one to stop it."""
        return self._change(job_id, lambda c, row, now: self._cancel(c, row, now, force))

    def cancel_many(self, ids: Sequence[str], force: bool = False) -> int:
        """See Engine.cancel_many."""
        return self._change_many(ids, lambda c, row, now: self._cancel(c, row, now, force))

    def retry(self, job_id: str) -> JobRecord:
        """Put a failed or cancelled job back in its queue, its counts of failures at nought."""
        return self._change(job_id, _retry)

    def retry_many(self, ids: Sequence[str]) -> int:
        """See Engine.cancel_many."""
        return self._change_many(ids, _retry)

    def _change(self, job_id: str, change: Change) -> JobRecord:
        now = self.clock()

        def work(connection: PgConnection) -> JobRecord:
            change(connection, find(connection, job_id, lock=True), now)
            self.notify(connection)
            return full(connection, job_id, now)[1]

        return self.database.write(work)

    def _change_many(self, ids: Sequence[str], change: Change) -> int:
        now = self.clock()

        def work(connection: PgConnection) -> int:
            changed = 0
            for job_id in ids:
                with suppress(JobNotFound, InvalidTransition):
                    change(connection, find(connection, job_id, lock=True), now)
                    changed += 1
            self.notify(connection)
            return changed

        return self.database.write(work)

    def _cancel(
        self, connection: PgConnection, row: tuple[Any, ...], now: float, force: bool
    ) -> None:
        status = STATUS[row[5]]
        check_cancel(status, row[1])
        if status is JobStatus.RUNNING:
            connection.execute(ASK_TO_STOP, (2 if force else 1, row[0]))
            return
        own = options_of(connection.value(OPTIONS, (row[0],)))
        keep = own.keep_for(JobStatus.CANCELLED)
        keep = self._keep_cancelled(row[2]) if keep is None else keep
        keys = connection.one(CANCEL, (now, now + keep, row[0]))
        admit(connection, now, [keys[0]], [keys[1]])

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue; survives restarts."""
        now = self.clock()

        def work(connection: PgConnection) -> None:
            connection.execute(
                "INSERT INTO offload.queues AS q (name, paused_at) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE"
                " SET paused_at = coalesce(q.paused_at, excluded.paused_at)",
                (queue_name, now),
            )
            give_capacity_back(connection, now, queue_name)

        self.database.write(work)

    def resume(self, queue_name: str) -> None:
        """Take back pause()."""
        now = self.clock()

        def work(connection: PgConnection) -> None:
            connection.execute(
                "INSERT INTO offload.queues (name) VALUES (%s)"
                " ON CONFLICT (name) DO UPDATE SET paused_at = NULL",
                (queue_name,),
            )
            admit_queue(connection, now, queue_name)
            self.notify(connection)

        self.database.write(work)

    def migrate(self) -> None:
        """Create the tables, or bring them to this release's version."""
        self.database.migrate()

    def clear(self) -> None:
        """Forget every job, limit and schedule; queues stay, but none is paused."""

        def work(connection: PgConnection) -> None:
            for table in JOB_TABLES:
                connection.execute(f"DELETE FROM offload.{table}")
            connection.execute("UPDATE offload.queues SET paused_at = NULL")

        self.database.write(work)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.database.close()


def _retry(connection: PgConnection, row: tuple[Any, ...], now: float) -> None:
    check_retry(STATUS[row[5]], row[1])
    keys = connection.one(RETRY, (row[0],))
    admit(connection, now, [keys[0]], [keys[1]])


def _insert_many(connection: PgConnection, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
    states = [first_state(job, now) for job in jobs]
    rows = [new_row(job, state, job.args) for job, state in zip(jobs, states, strict=True)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    seqs: dict[str, int] = dict(connection.execute(INSERT_MANY, columns).fetchall())
    return [
        new_record(job, seqs[job.id[-SECRET_LENGTH:]], state)
        for job, state in zip(jobs, states, strict=True)
    ]


def _admit_new(connection: PgConnection, jobs: Sequence[NewJob], now: float) -> None:
    lock_limits(connection)
    keep_limits(connection, concurrency_limits(jobs), rate_limits(jobs))
    admit(
        connection,
        now,
        concurrency_keys=[job.concurrency_key for job in jobs],
        rate_keys=[job.rate_key for job in jobs],
    )


def _existing(connection: PgConnection, job: NewJob, now: float) -> JobRecord | None:
    """The job that already holds this unique key; None, and the key is free, if there is none."""
    row = connection.execute(HOLDER, (job.unique_key,)).fetchone()
    if row is None:
        return None
    found = record(row)
    if is_duplicate(job, found, now):
        found.is_duplicate = True
        return found
    connection.execute(FREE_KEY, (row[0],))
    return None


def _are_there(connection: PgConnection, records: Sequence[JobRecord]) -> bool:
    """Whether these jobs were committed."""
    seqs = {int(found.id[:-SECRET_LENGTH], 16) for found in records}
    return bool(connection.value(IS_THERE, (list(seqs),)) == len(seqs))
