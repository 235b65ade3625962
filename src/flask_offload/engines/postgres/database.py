"""The connections of a process that enqueues, looks up and changes jobs."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import psycopg

from ...errors import EngineUnavailable
from .connection import Names, PgConnection
from .error_mapping import driver_url, explain, place_of
from .schema import is_current, migrate
from .transaction import ASYNC, DURABLE, READ, CommitUnknown, transact

T = TypeVar("T")

MOST_CONNECTIONS: Final = 10
"""Of one process: more threads than that take turns, for well below a millisecond each."""


class ConnectionStack:
    """A stack of connections: the one that was used last is used next, so that a process keeps as
    many as it needs at once. Safe between threads; a forked child opens its own.

    prepares: see PgConnection. timeout: seconds within which every call answers.
    """

    def __init__(
        self, url: str, schema: str, *, durable: bool, timeout: float, prepares: bool
    ) -> None:
        self.url: str = driver_url(url)
        self.place: str = place_of(self.url)
        self.names: Names = Names(schema)
        self.durable = durable
        self.timeout = timeout
        self._prepares = prepares
        self._is_migrated = False
        self.generation: int = 0
        """Changes when what was known of the database may no longer be true."""
        self._reset()
        _databases.add(self)

    def _reset(self) -> None:
        self._idle: list[PgConnection] = []
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    # --- what engines use ---

    def write(
        self,
        work: Callable[[PgConnection], T],
        *,
        promise: bool = True,
        confirm: Callable[[PgConnection, T], bool] | None = None,
    ) -> T:
        """Run `work` in a transaction. Raises EngineUnavailable, and then nothing was done, except
        perhaps where the answer to the commit was lost and there is no `confirm`.

        promise: whether the commit waits for the disk, where the settings ask for it. confirm: asks
        a new connection whether the work was committed, when the answer to that was lost.
        """
        begin = DURABLE if promise and self.durable else ASYNC
        return self._run(work, begin, confirm)

    def read(self, work: Callable[[PgConnection], T]) -> T:
        """Run `work`, which changes nothing and sees one state of the database."""
        return self._run(work, READ, None)

    def _run(
        self,
        work: Callable[[PgConnection], T],
        begin: bytes,
        confirm: Callable[[PgConnection, T], bool] | None,
    ) -> T:
        """Where the session turns out to have ended, and nothing was committed, once more in a new
        one: an idle session may end at any moment."""
        deadline = time.monotonic() + self.timeout
        with self.explained():
            for is_last in (False, True):
                with self._connection(deadline, is_new=is_last) as connection:
                    left = deadline - time.monotonic()
                    try:
                        return transact(connection, work, timeout=left, begin=begin)
                    except CommitUnknown as unknown:
                        if confirm is not None and self._was_committed(
                            connection, unknown, confirm
                        ):
                            return unknown.result  # type: ignore[return-value]
                        if confirm is None or is_last or time.monotonic() > deadline:
                            raise unknown.error from None
                    except psycopg.OperationalError:
                        if is_last or not connection.raw.closed or time.monotonic() > deadline:
                            raise
        raise AssertionError("unreachable")

    def migrate(self) -> None:
        """Create the tables, or bring them to today's version. Raises EngineUnavailable."""
        with self.explained():
            connection = self._connect(max(self.timeout, 60.0))
            try:
                transact(connection, migrate, timeout=600.0, begin=DURABLE)
            except CommitUnknown as unknown:  # the next use looks for the tables again
                raise unknown.error from None
            finally:
                connection.close()
        self._is_migrated = True

    def forget(self) -> None:
        """Look for the tables again at the next use."""
        self._is_migrated = False
        self.generation += 1

    def connect(self, url: str | None = None, *, timeout: float, prepares: bool) -> PgConnection:
        """A connection of the caller's own. Raises psycopg's errors."""
        return PgConnection(
            url or self.url, self.names, timeout=timeout, prepares=prepares, **KEEPALIVE
        )

    def ensure_migrated(self) -> None:
        """Look for the tables once, and create them if they are missing. Raises
        EngineUnavailable."""
        if self._is_migrated:
            return
        with self.explained():
            connection = self._connect(self.timeout)
            try:
                connection.raw.deadline = time.monotonic() + self.timeout
                is_done = is_current(connection)
            finally:
                connection.close()
        if not is_done:
            self.migrate()
        self._is_migrated = True

    def close(self) -> None:
        """Close the idle connections; the next call opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            self.generation += 1
        for connection in idle:
            connection.close()

    # --- connections ---

    def _connect(self, timeout: float) -> PgConnection:
        return self.connect(timeout=timeout, prepares=self._prepares)

    @contextmanager
    def _connection(self, deadline: float, *, is_new: bool) -> Iterator[PgConnection]:
        self.ensure_migrated()
        if not self._places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise EngineUnavailable(
                f"all {MOST_CONNECTIONS} connections of this process to {self.place} are busy"
            )
        places = self._places  # those of this process: a fork replaces them
        try:
            connection = None if is_new else self._take()
            if connection is None:
                connection = self._connect(max(0.1, deadline - time.monotonic()))
            try:
                yield connection
            finally:
                self._put_back(connection)
        finally:
            places.release()

    def _take(self) -> PgConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if connection.is_idle_and_well:
                return connection
            connection.close()

    def _put_back(self, connection: PgConnection) -> None:
        if connection.raw.closed:
            return
        with self._lock:
            self._idle.append(connection)

    def _was_committed(
        self,
        broken: PgConnection,
        unknown: CommitUnknown,
        confirm: Callable[[PgConnection, T], bool],
    ) -> bool:
        """Ask on a new connection, once the old session can do nothing more."""
        broken.close()
        pid = broken.pid
        fresh = self._connect(self.timeout)
        try:
            fresh.raw.deadline = time.monotonic() + self.timeout
            mine = f"flask-offload {os.getpid()}"
            fresh.execute(END_SESSION, (pid, mine))
            while fresh.value(HAS_SESSION, (pid, mine)):
                time.sleep(0.01)
            return confirm(fresh, unknown.result)  # type: ignore[arg-type]
        finally:
            fresh.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise psycopg's errors as this package's."""
        try:
            yield
        except psycopg.Error as error:
            found = explain(error, self.place)
            if isinstance(found, EngineUnavailable):
                self.forget()
            if found is error:
                raise
            raise found from error

    # --- forks ---

    def after_fork(self) -> None:
        """In a forked child: the connections are the parent's. Close the copies of their
        descriptors, without a word to the server."""
        for connection in self._idle:
            connection.abandon()
        self._reset()


KEEPALIVE: Final = {
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""On our side of every connection: a server that has vanished is noticed within 15 seconds."""

END_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = %s AND application_name = %s AND usename = current_user
"""
HAS_SESSION = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND application_name = %s"

_databases: weakref.WeakSet[ConnectionStack] = weakref.WeakSet()


def _after_fork() -> None:
    for database in list(_databases):
        database.after_fork()


os.register_at_fork(after_in_child=_after_fork)
