"""Jobs in a transaction of the app, on its own SQLAlchemy connection, whatever the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg.conninfo import conninfo_to_dict

from ...jobs.job import JobRecord
from ...jobs.new_job import NewJob
from ..new_rows import first_state, is_duplicate, new_record, new_row
from ..rows import COLUMNS, record
from .connection import Names, Parameters, PgConnection
from .sender import INSERT

HOLDER = f"SELECT {COLUMNS} FROM offload.jobs WHERE unique_key = %s"
"""Without a lock, which would stop the worker that runs it until the app commits."""
FREE_KEY = "UPDATE offload.jobs SET unique_key = NULL WHERE seq = %s"

LOCAL = ("localhost", "127.0.0.1", "::1")


class JoinedConnection(PgConnection):
    """The connection of a session of the app. Errors: SQLAlchemy's."""

    def __init__(self, connection: Any, names: Names) -> None:
        self._connection = connection
        self._names = names
        self.schema: str = names.schema

    def execute(self, statement: str, parameters: Parameters = ()) -> Any:
        """Run one statement; `%s` is a parameter to every driver of PostgreSQL."""
        text = self._names.fill(statement).decode()
        return self._connection.exec_driver_sql(text, tuple(parameters))


def join(
    connection: JoinedConnection, jobs: Sequence[NewJob], now: float, channel: str
) -> list[JobRecord]:
    """Insert jobs, and notify the workers when the transaction is committed.

    Jobs with limits wait for a worker to admit them: the lock for that must not be held until the
    app commits.
    """
    return [_insert(connection, job, now, channel) for job in jobs]


def _insert(connection: JoinedConnection, job: NewJob, now: float, channel: str) -> JobRecord:
    state = first_state(job, now)
    if job.concurrency_key is not None or job.rate_key is not None:
        state = "scheduled"  # a worker promotes it, and then admits it
        if job.run_after is None:
            job = msgspec.structs.replace(job, run_after=now)
    while True:
        values = (*new_row(job, state, job.args), channel, str(job.priority))
        row = connection.execute(INSERT, values).fetchone()
        if row is not None:
            return new_record(job, row[0], state)
        held = connection.execute(HOLDER, (job.unique_key,)).fetchone()
        if held is not None:
            found = record(tuple(held))
            if is_duplicate(job, found, now):
                found.is_duplicate = True
                return found
            connection.execute(FREE_KEY, (held[0],))


def is_same_database(own: str, url: Any) -> bool:
    """Whether an SQLAlchemy URL is that of the job database. If in doubt it is not."""
    if url.get_backend_name() != "postgresql" or url.get_driver_name() == "asyncpg":
        return False
    parts = conninfo_to_dict(own)
    host = url.host or url.query.get("host") or ""
    return (
        _host(str(parts.get("host") or "")) == _host(str(host))
        and int(parts.get("port") or 5432) == int(url.port or 5432)
        and (parts.get("dbname") or parts.get("user")) == (url.database or url.username)
    )


def _host(name: str) -> str:
    return "localhost" if name in LOCAL else name
