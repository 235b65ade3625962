"""The sender half of the SQLite engine: accept jobs, and what only SQLite does in its own way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ...jobs.job import JobRecord
from ...jobs.new_job import NewJob
from ..base import Flags
from ..dialect import SQLITE
from ..new_rows import (
    NEW_COLUMNS,
    first_state,
    new_record,
    new_row,
)
from ..sql_sender import SqlFunctions, SqlSender
from ..worker_locks import run_folder
from .connection import Connection
from .database import Database
from .limits import admit, admit_queue, give_capacity_back, keep_limits
from .notifier import Notifiers
from .rows import NEXT_SEQ, TICKS, find, full, with_attempts

INLINE_ARGS = 512
"""Characters of arguments that stay in the job's row; larger ones are in `payloads`.

Moving a row rewrites its page, so a large row would make every move dear (1 MB: 4 MB of log per
job); a small payload in the row saves an insert, a look-up and a delete.
"""

VALUES = ", ?" * (NEW_COLUMNS.count(",") + 1)
INSERT = f"INSERT INTO jobs (seq, {NEW_COLUMNS}) VALUES ({NEXT_SEQ}{VALUES})"
INSERT_AFTER = f"INSERT INTO jobs (seq, {NEW_COLUMNS}) VALUES (?{VALUES})"
"""With the number that it gets: a tenth quicker."""

KNOW_QUEUE = "INSERT OR IGNORE INTO queues (name) VALUES (?)"

ARGUMENTS = """
SELECT coalesce(jobs.args, payloads.args) FROM jobs LEFT JOIN payloads USING (seq) WHERE seq = ?
"""
FUNCTIONS = SqlFunctions(
    find=find,
    full=full,
    records=with_attempts,
    admit=admit,
    admit_queue=admit_queue,
    give_capacity_back=give_capacity_back,
    keep_limits=keep_limits,
)

T = TypeVar("T")


class SqliteSender(SqlSender[Connection]):
    """What an app asks of its SQLite file. Every method may raise the subclasses of
    EngineUnavailable.

    keep_cancelled: seconds that a job of a task, given by name, is kept when `cancel` ends it.
    clock: unix seconds; tests travel in time with it.
    """

    name = "sqlite"
    flags: ClassVar[Flags] = Flags(**dict.fromkeys(Flags.names(), True))
    dialect = SQLITE
    database: Database

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
        database = Database(path, durable=durable, busy_timeout=busy_timeout, force=force)
        super().__init__(database, FUNCTIONS, keep_cancelled, clock)
        self.notifiers: Notifiers = Notifiers(run_folder(path))
        self._known_queues: set[str] = set()
        self._known_in = -1  # the database's generation in which they were read

    # --- accept ---

    def accept(
        self, jobs: Sequence[NewJob], work: Callable[[Connection], list[JobRecord]]
    ) -> list[JobRecord]:
        """See SqlSender.accept."""
        return self.write_and_notify(work)

    def write_and_notify(self, work: Callable[[Connection], T], *, inserts: bool = False) -> T:
        """See SqlSender.write_and_notify."""
        result = self.database.write(work)
        self.notifiers.notify()
        return result

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
                self.holder(connection, job, now) or _insert(connection, [job], now)[0]
                for job in jobs
            ]
        else:
            records = _insert(connection, jobs, now)
        if is_limited:
            self.admit_new(connection, jobs, records, now)
        return records

    # --- look up ---

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        args: str = self.database.read(
            lambda connection: connection.execute(ARGUMENTS, (find(connection, job_id)[0],)).get
        )
        return args

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.database.close()
        self.notifiers.close()


def _insert(connection: Connection, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
    """Insert them; their numbers follow the first one's, as no other process writes meanwhile."""
    if not jobs:
        return []
    states = [first_state(job, now) for job in jobs]
    connection.execute(INSERT, _row(jobs[0], states[0], int(now * TICKS)))
    first = connection.last_insert_rowid()
    numbered = list(zip(jobs, states, range(first, first + len(jobs)), strict=True))
    if len(jobs) > 1:
        connection.executemany(INSERT_AFTER, [_row(*each) for each in numbered[1:]])
    return [_inserted(connection, *each) for each in numbered]


def _row(job: NewJob, state: str, seq: int) -> tuple[Any, ...]:
    """What INSERT binds; seq is the least number it may get. For INSERT_AFTER, its number."""
    return seq, *new_row(job, state, job.args if len(job.args) <= INLINE_ARGS else None)


def _inserted(connection: Connection, job: NewJob, state: str, seq: int) -> JobRecord:
    """The record of a job whose row is there; what is beside the row is added."""
    if len(job.args) > INLINE_ARGS:
        connection.execute("INSERT INTO payloads (seq, args) VALUES (?, ?)", (seq, job.args))
    if job.files:
        connection.executemany(
            "INSERT INTO files (name, seq) VALUES (?, ?)", [(name, seq) for name in job.files]
        )
    return new_record(job, seq, state)
