"""The sender half of the PostgreSQL engine: accept jobs, and what only PostgreSQL does in its own
way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from ...jobs.job import JobRecord
from ...jobs.new_job import NewJob
from ..base import Flags
from ..dialect import POSTGRES
from ..new_rows import (
    NEW_COLUMNS,
    first_state,
    new_record,
    new_row,
)
from ..rows import SECRET_LENGTH
from ..sql_sender import SqlFunctions, SqlSender
from .connection import AGAIN, PgConnection, channel_of
from .database import ConnectionStack
from .limits import admit, admit_queue, give_capacity_back, keep_limits, lock_limits
from .rows import find, full, with_attempts

TYPES = (
    *("text", "text", "text", "text", "int", "text", "text", "text", "text", "float8"),
    *("float8", "text", "text", "text", "text", "text", "text", "text", "text"),
)

INSERT = f"""
WITH new AS (
    INSERT INTO offload.jobs ({NEW_COLUMNS})
    VALUES ({", ".join(["%s"] * len(TYPES))}) ON CONFLICT DO NOTHING RETURNING seq
)
SELECT seq, pg_notify(%s, %s) FROM new
"""

INSERT_MANY = f"""
INSERT INTO offload.jobs ({NEW_COLUMNS})
SELECT {NEW_COLUMNS} FROM unnest({", ".join(f"%s::{kind}[]" for kind in TYPES)}) WITH ORDINALITY
    AS new ({NEW_COLUMNS}, place) ORDER BY place
RETURNING secret, seq
"""

KNOW_QUEUE = "INSERT INTO offload.queues (name) VALUES (%s) ON CONFLICT DO NOTHING"
IS_THERE = "SELECT count(*) FROM offload.jobs WHERE seq = ANY(%s::bigint[])"

ARGUMENTS = "SELECT args FROM offload.jobs WHERE seq = %s"
FUNCTIONS = SqlFunctions(
    find=partial(find, lock=True),
    full=full,
    records=with_attempts,
    admit=admit,
    admit_queue=admit_queue,
    give_capacity_back=give_capacity_back,
    keep_limits=keep_limits,
)

T = TypeVar("T")


class PostgresSender(SqlSender[PgConnection]):
    """What an app asks of its PostgreSQL database. Every method may raise the subclasses of
    EngineUnavailable.

    keep_cancelled: seconds that a job of a task, given by name, is kept when `cancel` ends it.
    clock: unix seconds; tests travel in time with it.
    """

    name = "postgres"
    flags: ClassVar[Flags] = Flags(
        **{**dict.fromkeys(Flags.names(), True), "files": False, "outbox": False}
    )
    dialect = POSTGRES
    database: ConnectionStack

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
        database = ConnectionStack(
            url,
            schema,
            durable=durable,
            timeout=timeout,
            prepares=direct_url is None,  # with a pooler in between
        )
        super().__init__(database, FUNCTIONS, keep_cancelled, clock)
        self.direct_url = direct_url
        self.channel: str = channel_of(schema)
        self._known_queues: set[str] = set()
        self._known_in = -1  # the database's generation of which we know them

    # --- accept ---

    def accept(
        self, jobs: Sequence[NewJob], work: Callable[[PgConnection], list[JobRecord]]
    ) -> list[JobRecord]:
        """See SqlSender.accept: the commit notifies the workers."""
        records = self.database.write(work, confirm=_are_there)
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
            connection.notify(str(max(job.priority for job in jobs)))
        if is_limited:
            lock_limits(connection)
            self.admit_new(connection, jobs, records, now)
        return records

    def _know_queues(self, connection: PgConnection, jobs: Iterable[NewJob]) -> None:
        if self._known_in != self.database.generation:  # the tables may have been made again
            self._known_in = self.database.generation
            self._known_queues.clear()
        for name in sorted({job.queue_name for job in jobs} - self._known_queues):
            connection.execute(KNOW_QUEUE, (name,))

    def _insert_one(self, connection: PgConnection, job: NewJob, now: float) -> JobRecord:
        state = first_state(job, now)
        while True:
            row = (*new_row(job, state, job.args), self.channel, str(job.priority))
            found = connection.execute(INSERT, row).fetchone()
            if found is not None:
                return new_record(job, found[0], state)
            existing = self.holder(connection, job, now)
            if existing is not None:
                return existing

    def write_and_notify(self, work: Callable[[PgConnection], T], *, inserts: bool = False) -> T:
        """See SqlSender.write_and_notify."""
        if inserts:  # which has notified
            return self.database.write(work)

        def both(connection: PgConnection) -> T:
            result = work(connection)
            connection.notify(AGAIN)
            return result

        return self.database.write(both)

    # --- look up ---

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        args: str = self.database.read(
            lambda connection: connection.value(ARGUMENTS, (find(connection, job_id)[0],))
        )
        return args

    def migrate(self) -> None:
        """Create the tables, or bring them to this release's version."""
        self.database.migrate()

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.database.close()


def _insert_many(connection: PgConnection, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
    states = [first_state(job, now) for job in jobs]
    rows = [new_row(job, state, job.args) for job, state in zip(jobs, states, strict=True)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    seqs: dict[str, int] = dict(connection.execute(INSERT_MANY, columns).fetchall())
    return [
        new_record(job, seqs[job.id[-SECRET_LENGTH:]], state)
        for job, state in zip(jobs, states, strict=True)
    ]


def _are_there(connection: PgConnection, records: Sequence[JobRecord]) -> bool:
    """Whether these jobs were committed."""
    seqs = {int(found.id[:-SECRET_LENGTH], 16) for found in records}
    return bool(connection.value(IS_THERE, (list(seqs),)) == len(seqs))
