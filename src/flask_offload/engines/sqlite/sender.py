"""The sender half of the SQLite engine: accept, look up, cancel, retry, list, pause."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from ...errors import InvalidTransition, JobNotFound
from ...jobs.attempt import Claim
from ...jobs.job import JobRecord, JobStatus
from ...jobs.new_job import NewJob
from ...jobs.options import options_of
from ...jobs.transition import check_cancel, check_retry
from .. import counters, relay
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
from ..dialect import SQLITE
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
from ..rows import COLUMNS, DUE_STATE, STATUS, WAITING_FOR, record
from ..worker_locks import run_folder
from . import queries
from .connection import Connection
from .database import Database
from .limits import admit, admit_queue, give_capacity_back, keep_limits
from .notifier import Notifiers
from .rows import NEXT_SEQ, TICKS, find, full
from .schema import SIDE_TABLES

INLINE_ARGS = 512
"""Characters of arguments that stay in the job's row; larger ones lie in `payloads`.

Moving a row rewrites its page, so a large row would make every move dear (1 MB: 4 MB of log per
job); a small payload in the row saves an insert, a look-up and a delete.
"""

INSERT = f"""
INSERT INTO jobs (seq, {NEW_COLUMNS})
VALUES ({NEXT_SEQ}{", ?" * (NEW_COLUMNS.count(",") + 1)})
"""

HOLDER = f"SELECT {COLUMNS} FROM jobs WHERE unique_key = ?"

KNOW_QUEUE = "INSERT OR IGNORE INTO queues (name) VALUES (?)"

OPTIONS = "SELECT options FROM jobs WHERE seq = ?"

HOLDS = "seq = ? AND attempt = ? AND state = 'running'"
"""An attempt that has started is not given back, so its number is its fence."""
SAVE_STEP = f"""
INSERT OR REPLACE INTO steps (seq, name, value) SELECT seq, ?, ? FROM jobs WHERE {HOLDS}
"""
STEP = f"""
SELECT (SELECT value FROM steps WHERE steps.seq = jobs.seq AND name = ?) FROM jobs WHERE {HOLDS}
"""

ASK_TO_STOP = "UPDATE jobs SET cancel = max(cancel, ?) WHERE seq = ?"

CANCEL = """
UPDATE jobs SET state = 'cancelled', finished_at = ?, expires_at = ? WHERE seq = ?
RETURNING concurrency_key, rate_key
"""

RETRY = f"""
UPDATE jobs SET failures = 0, crashes = 0, cancel = 0, worker = NULL, run_after = NULL,
    finished_at = NULL, expires_at = NULL, done = NULL, total = NULL, message = NULL,
    state = {DUE_STATE}
WHERE seq = ? RETURNING concurrency_key, rate_key
"""

JOB_TABLES = ("jobs", *SIDE_TABLES, "files", "limits", "starts", "schedules")


Change = Callable[[Connection, tuple[Any, ...], float], None]
"""Changes one job: given its row of COLUMNS and the time."""


class SqliteSender(Engine):
    """What an app asks of its SQLite file. Every method may raise the subclasses of
    EngineUnavailable.

    keep_cancelled: seconds that a job of a task, given by name, is kept when `cancel` ends it.
    clock: unix seconds; tests travel in time with it.
    """

    name = "sqlite"
    flags: ClassVar[Flags] = Flags(**dict.fromkeys(Flags.names(), True))

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        busy_timeout: float = 5.0,
        force: bool = False,
        keep_cancelled: Callable[[str], float] = lambda task: 30 * 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database: Database = Database(
            path, durable=durable, busy_timeout=busy_timeout, force=force
        )
        self.notifiers: Notifiers = Notifiers(run_folder(path))
        self.clock = clock
        self._keep_cancelled = keep_cancelled
        self._known_queues: set[str] = set()
        self._known_in = -1  # the database's generation in which they were read

    # --- accept ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs in one transaction, then notify the workers."""
        now = self.clock()
        records = self.database.write(lambda connection: self.insert(connection, jobs, now))
        self.notifiers.notify()
        return records

    def insert(self, connection: Connection, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
        """The work of enqueue() inside a transaction of the caller."""
        if self._known_in != self.database.generation:  # a queue that was undone is not known
            self._known_in = self.database.generation
            self._known_queues.clear()
        is_unique = is_limited = False
        for job in jobs:
            if job.queue_name not in self._known_queues:
                connection.execute(KNOW_QUEUE, (job.queue_name,))
                self._known_queues.add(job.queue_name)
            is_unique = is_unique or job.unique_key is not None
            is_limited = is_limited or job.concurrency_key is not None or job.rate_key is not None
        if is_unique:  # one by one, as one may be another's duplicate
            records = [
                _existing(connection, job, now) or _insert(connection, [job], now)[0]
                for job in jobs
            ]
        else:
            records = _insert(connection, jobs, now)
        if is_limited:
            self._admit_new(connection, jobs, now)
            for found in records:
                found.waiting_for = WAITING_FOR.get(find(connection, found.id)[5])
        return records

    def _admit_new(self, connection: Connection, jobs: Sequence[NewJob], now: float) -> None:
        keep_limits(connection, concurrency_limits(jobs), rate_limits(jobs))
        admit(
            connection,
            now,
            concurrency_keys=[job.concurrency_key for job in jobs],
            rate_keys=[job.rate_key for job in jobs],
        )

    # --- a transaction of the app ---

    def relay(self, jobs: Sequence[NewJob], deadline: float) -> list[JobRecord]:
        """Accept jobs of an outbox, each once."""
        now = self.clock()
        records = self.database.write(
            lambda connection: relay.relay(
                connection,
                SQLITE,
                jobs,
                now=now,
                deadline=deadline,
                insert=lambda new: self.insert(connection, new, now),
                keep_cancelled=self._keep_cancelled,
            )
        )
        self.notifiers.notify()
        return records

    def forget_relayed(self, ids: Sequence[str]) -> None:
        """These jobs have left their outbox."""
        now = self.clock()
        self.database.write(
            lambda connection: relay.forget(connection, SQLITE, ids, now=now), promise=False
        )

    # --- report ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        now = self.clock()
        return self.database.read(lambda connection: full(connection, job_id, now)[1])

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key."""
        rows = self.database.read(lambda connection: connection.execute(HOLDER, (key,)).fetchall())
        return record(rows[0]) if rows else None

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs with their attempts, without their results, newest first."""
        return self.database.read(lambda connection: queries.list_jobs(connection, query))

    def page(self, query: JobQuery, look: int = LOOK) -> JobPage:
        """Jobs without their results, newest first, in a bounded time."""
        return self.database.read(lambda connection: queries.page(connection, query, look))

    def matching(self, query: JobQuery, look: int = LOOK) -> tuple[int, bool]:
        """How many of the jobs that `page` would look at match, and whether there are more."""
        return self.database.read(lambda c: Search(c, SQLITE).matching(query, look))

    def failures(self, look: int = LOOK) -> Sequence[FailureGroup]:
        """The newest FAILED jobs by task and type of error."""
        return self.database.read(lambda c: Search(c, SQLITE).failures(look))

    def waiting_since(self) -> float | None:
        """Since when the job that is first in line waits (unix seconds)."""
        return self.database.read(lambda c: Search(c, SQLITE).waiting_since())

    def counters(self, since: float) -> Sequence[CounterRow]:
        """What became of attempts since this moment (unix seconds), by the minute."""
        return self.database.read(lambda connection: counters.read(connection, SQLITE, since))

    def totals(self) -> Sequence[CounterRow]:
        """What became of all attempts, by task."""
        return self.database.read(lambda connection: counters.totals(connection, SQLITE))

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
        fence = (claim.seq, claim.attempt)
        if value is not None:
            self.database.write(
                lambda connection: connection.execute(SAVE_STEP, (name, value, *fence)).fetchall()
            )
        rows = self.database.read(
            lambda connection: connection.execute(STEP, (name, *fence)).fetchall()
        )
        return bool(rows), rows[0][0] if rows else None

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

        def work(connection: Connection) -> JobRecord:
            change(connection, find(connection, job_id), now)
            return full(connection, job_id, now)[1]

        result = self.database.write(work)
        self.notifiers.notify()
        return result

    def _change_many(self, ids: Sequence[str], change: Change) -> int:
        now = self.clock()

        def work(connection: Connection) -> int:
            changed = 0
            for job_id in ids:
                with suppress(JobNotFound, InvalidTransition):
                    change(connection, find(connection, job_id), now)
                    changed += 1
            return changed

        result = self.database.write(work)
        self.notifiers.notify()
        return result

    def _cancel(
        self, connection: Connection, row: tuple[Any, ...], now: float, force: bool
    ) -> None:
        status = STATUS[row[5]]
        check_cancel(status, row[1])
        if status is JobStatus.RUNNING:
            connection.execute(ASK_TO_STOP, (2 if force else 1, row[0]))
            return
        own = options_of(connection.execute(OPTIONS, (row[0],)).get)
        keep = own.keep_for(JobStatus.CANCELLED)
        keep = self._keep_cancelled(row[2]) if keep is None else keep
        keys = connection.execute(CANCEL, (now, now + keep, row[0])).fetchone()
        admit(connection, now, [keys[0]], [keys[1]])

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue; survives restarts."""
        now = self.clock()

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO queues (name, paused_at) VALUES (?1, ?2)"
                " ON CONFLICT DO UPDATE SET paused_at = coalesce(paused_at, ?2)",
                (queue_name, now),
            )
            give_capacity_back(connection, now, queue_name)

        self.database.write(work)

    def resume(self, queue_name: str) -> None:
        """Take back pause()."""
        now = self.clock()

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO queues (name) VALUES (?) ON CONFLICT DO UPDATE SET paused_at = NULL",
                (queue_name,),
            )
            admit_queue(connection, now, queue_name)

        self.database.write(work)
        self.notifiers.notify()

    def clear(self) -> None:
        """Forget every job, limit and schedule; queues stay, but none is paused."""

        def work(connection: Connection) -> None:
            for table in JOB_TABLES:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE queues SET paused_at = NULL")

        self.database.write(work)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.database.close()
        self.notifiers.close()


def _retry(connection: Connection, row: tuple[Any, ...], now: float) -> None:
    check_retry(STATUS[row[5]], row[1])
    keys = connection.execute(RETRY, (row[0],)).fetchone()
    admit(connection, now, [keys[0]], [keys[1]])


def _insert(connection: Connection, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
    """Insert them; their numbers follow the first one's, as no other process writes meanwhile."""
    if not jobs:
        return []
    states = [first_state(job, now) for job in jobs]
    connection.execute(INSERT, _row(jobs[0], states[0], int(now * TICKS)))
    first = connection.last_insert_rowid()
    numbered = list(zip(jobs, states, range(first, first + len(jobs)), strict=True))
    if len(jobs) > 1:
        connection.executemany(INSERT, [_row(*each) for each in numbered[1:]])
    return [_inserted(connection, *each) for each in numbered]


def _row(job: NewJob, state: str, seq: int) -> tuple[Any, ...]:
    """What INSERT binds. seq: the least number it may get."""
    return seq, *new_row(job, state, job.args if len(job.args) <= INLINE_ARGS else None)


def _inserted(connection: Connection, job: NewJob, state: str, seq: int) -> JobRecord:
    """The record of a job whose row is there; what lies beside the row is added."""
    if len(job.args) > INLINE_ARGS:
        connection.execute("INSERT INTO payloads (seq, args) VALUES (?, ?)", (seq, job.args))
    if job.files:
        connection.executemany(
            "INSERT INTO files (name, seq) VALUES (?, ?)", [(name, seq) for name in job.files]
        )
    return new_record(job, seq, state)


def _existing(connection: Connection, job: NewJob, now: float) -> JobRecord | None:
    """The job that already holds this unique key; None, and the key is free, if there is none."""
    if job.unique_key is None:
        return None
    row = connection.execute(HOLDER, (job.unique_key,)).fetchone()
    if row is None:
        return None
    found = record(row)
    if is_duplicate(job, found, now):
        found.is_duplicate = True
        return found
    connection.execute("UPDATE jobs SET unique_key = NULL WHERE seq = ?", (row[0],))
    return None
