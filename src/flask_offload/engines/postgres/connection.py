"""One connection to PostgreSQL: bounded in time, and with the configured schema's name."""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

RV = TypeVar("RV")

Parameters = Sequence[Any] | Mapping[str, Any]
Cursor = psycopg.Cursor[TupleRow]

SCHEMA_PREFIX: Final = re.compile(r"\boffload\.")

FOREVER: Final = float("inf")

NOTIFY: Final = "SELECT pg_notify(%s, %s)"
AGAIN: Final = "again"
"""A notification's payload: jobs have become ready that may be older than others which are."""


class _Bounded(psycopg.Connection[TupleRow]):
    """Waits for the server until `deadline` (monotonic seconds), then raises an error."""

    deadline = FOREVER

    def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        if self.deadline == FOREVER:
            return super().wait(gen, *arguments, **options)
        return super().wait(_until(gen, self.deadline), *arguments, **options)


def _until(gen: PQGen[RV], deadline: float) -> PQGen[RV]:
    """The same generator, which fails once the deadline is over. psycopg resumes it several times a
    second, also when nothing has come."""
    try:
        state = next(gen)
        while True:
            ready = yield state
            if not ready and time.monotonic() > deadline:
                gen.close()
                raise psycopg.OperationalError("the server does not answer")
            state = gen.send(ready)
    except StopIteration as end:
        result: RV = end.value
        return result


class Names:
    """Statements with the name of the schema filled in."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.quoted: str = '"' + schema.replace('"', '""') + '"'
        self._known: dict[str, bytes] = {}

    def fill(self, statement: str) -> bytes:
        """The statement as it is sent; `offload.` stands for the schema."""
        named = self._known.get(statement)
        if named is None:
            if len(self._known) > 1000:
                self._known.clear()
            # inside of quotes the name is an identifier too: 'offload.jobs'::regclass
            named = SCHEMA_PREFIX.sub(lambda _: f"{self.quoted}.", statement).encode()
            self._known[statement] = named
        return named


def channel_of(schema: str) -> str:
    """Where workers listen for work."""
    return f"{schema} jobs"


class PgConnection:
    """What statements are run on. Errors: psycopg's.

    timeout: seconds that a transaction may take. prepares: whether statements are prepared, which
    a pooler between us and the server may not allow.
    """

    def __init__(
        self, url: str, names: Names, *, timeout: float, prepares: bool = True, **options: Any
    ) -> None:
        self._names = names
        self.schema: str = names.schema
        self.raw: _Bounded = _Bounded.connect(
            url,
            autocommit=True,
            prepare_threshold=5 if prepares else None,
            connect_timeout=max(2, round(timeout)),
            application_name=f"flask-offload {os.getpid()}",
            client_encoding="utf8",
            **options,
        )
        self.pid: int = self.raw.info.backend_pid
        """Of the server's process for this session."""

    def execute(self, statement: str, parameters: Parameters = ()) -> Cursor:
        """Run one statement."""
        return self.raw.execute(self._names.fill(statement), parameters)

    def value(self, statement: str, parameters: Parameters = ()) -> Any:
        """The first column of the first row; None if there is none."""
        row = self.execute(statement, parameters).fetchone()
        return None if row is None else row[0]

    def one(self, statement: str, parameters: Parameters = ()) -> tuple[Any, ...]:
        """The first row of a statement that always has one."""
        row = self.execute(statement, parameters).fetchone()
        assert row is not None
        return row

    def notify(self, payload: str) -> None:
        """Wake the workers when the transaction is committed. payload: the highest priority of jobs
        that are new; AGAIN, which does not wake this worker; or empty, if neither applies."""
        self.execute(NOTIFY, (channel_of(self.schema), payload))

    def script(self, statements: str) -> None:
        """Run several statements, without parameters."""
        self.raw.execute(self._names.fill(statements), prepare=False)

    def create_schema(self) -> None:
        """Create the schema unless it is there; the right to do so is needed only if it is not."""
        if self.value("SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.schema,)) is None:
            self.raw.execute(f"CREATE SCHEMA {self._names.quoted}".encode())

    @property
    def is_idle_and_well(self) -> bool:
        """Whether it can be used, as far as can be said without asking the server: a server that
        has ended or restarted has closed its side, which makes an idle connection readable."""
        raw = self.raw
        if raw.closed or raw.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            return False
        poll = select.poll()
        poll.register(raw.pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End the session, without waiting."""
        self.raw.close()

    def abandon(self) -> None:
        """In a forked child: close the copy of the descriptor; the session is the parent's."""
        with contextlib.suppress(OSError, psycopg.Error):
            os.close(self.raw.pgconn.socket)
        _abandoned.append(self)


_abandoned: list[PgConnection] = []
"""Kept, as the end of such an object would close the descriptor's number again."""
