"""A worker's session: the one connection through which it does everything.

The server knows by it whether the worker is alive: the session holds an advisory lock, which the
server releases when the session ends, however that happens. So every write of a worker is proof
that it still has its lock. A worker whose session ended, while its process did not, opens another
one and takes the lock again, unless its jobs were put back meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import selectors
import time
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from ...errors import DatabaseGone, EngineUnavailable
from ...jobs import log
from .connection import AGAIN, PgConnection
from .database import ConnectionStack
from .error_mapping import driver_url, explain
from .transaction import ASYNC, DURABLE, CommitUnknown, transact

T = TypeVar("T")

TIMEOUT: Final = 5.0
"""Seconds that one call may take before the session is given up."""

CONNECT_TIMEOUT: Final = 2.0

SETTINGS: Final = """
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 14000; SET idle_session_timeout = 0; SET statement_timeout = 0;
SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 20000;
SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off
"""
"""By the first four the server notices within some 15 seconds that a worker's host has vanished;
the next keep the role's own settings from ending the session. By the last three a claim is
planned once, which takes longer than to run it, and not for the empty table of that moment."""
SETTINGS_BEFORE_14: Final = SETTINGS.replace("SET idle_session_timeout = 0; ", "")

BROKEN_GRACE: Final = 1.5
"""Seconds for which jobs go on after the session was seen to end: less than REATTACH_GRACE of
recovery.py, after which another worker may start them."""
SILENT_GRACE: Final = 9.0
"""Seconds for which jobs go on since the server's last answer: less than the server waits until it
takes the host for vanished."""

TAKE_LOCK = "SELECT pg_try_advisory_lock(%s)"
END_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
    AND (classid::bigint << 32) | objid::bigint = %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def lock_key(schema: str, worker_id: str) -> int:
    """The number of a worker's advisory lock."""
    digest = hashlib.sha256(f"flask_offload {schema} {worker_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class Session:
    """Opened at the first use, and again after it was lost. on_attach: called inside the first
    transaction of each new session, with the lock held. on_notify: called with each notification's
    payload. Errors: EngineUnavailable, and then nothing was done.
    """

    def __init__(
        self,
        database: ConnectionStack,
        worker_id: str,
        *,
        url: str | None,
        channel: str,
        on_attach: Callable[[PgConnection], None],
        on_notify: Callable[[str], None],
    ) -> None:
        self._database = database
        self._key = lock_key(database.names.schema, worker_id)
        self._url = None if url is None else driver_url(url)
        self._channel = channel
        self._on_attach = on_attach
        self._connection: PgConnection | None = None
        self._pid: int | None = None
        self.notifier: SessionNotifier = SessionNotifier(self._note_broken, on_notify)
        self.attached_at: float = 0.0
        """When this session began (monotonic seconds)."""
        self._answered_at = time.monotonic()
        self._broken_at: float | None = None
        _sessions.add(self)

    # --- what stores use ---

    def write(self, work: Callable[[PgConnection], T], *, promise: bool = True) -> T:
        """Run `work` in a transaction. promise: as for ConnectionStack.write."""
        begin = DURABLE if promise and self._database.durable else ASYNC
        asked_at = time.monotonic()
        try:
            connection = self._attached()
            result = transact(connection, work, timeout=TIMEOUT, begin=begin)
        except CommitUnknown as unknown:
            # its outcomes are offered again and then refused, if it was committed
            self._lose()
            raise explain(unknown.error, self._database.place) from unknown.error
        except psycopg.Error as error:
            if self._connection is not None and self._connection.raw.closed:
                self._lose()
            found = explain(error, self._database.place)
            if isinstance(found, EngineUnavailable):
                self._database.forget()
            if isinstance(found, DatabaseGone):
                self._drop()  # a new session creates the tables and registers the worker again
            if found is error:
                raise
            raise found from error
        self._answered_at = asked_at
        return result

    def is_lapsed(self) -> bool:
        """Whether other workers may by now put back what this worker runs, so that it has to stop
        it."""
        now = time.monotonic()
        if self._broken_at is not None and now > self._broken_at + BROKEN_GRACE:
            return True
        return now > self._answered_at + SILENT_GRACE

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._drop()
        self.notifier.close()

    def abandon(self) -> None:
        """In a forked child: close the copies of the descriptors. May be called again."""
        self.notifier.close()
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    # --- begin and end ---

    def _attached(self) -> PgConnection:
        connection = self._connection
        if connection is not None and not connection.raw.closed:
            return connection
        self._drop()
        try:
            self._database.ensure_migrated()
            connection = self._open()
        except (psycopg.OperationalError, EngineUnavailable) as error:
            if _is_down(error):  # then it is down for every worker, and none can take our jobs
                self._answered_at = time.monotonic()
                self._broken_at = None if self._broken_at is None else self._answered_at
            raise
        self._connection = connection
        self._broken_at = None
        self._answered_at = self.attached_at = time.monotonic()
        self.notifier.watch(connection)
        return connection

    def _open(self) -> PgConnection:
        connection = self._database.connect(self._url, timeout=CONNECT_TIMEOUT, prepares=True)
        try:
            connection.raw.deadline = time.monotonic() + TIMEOUT
            is_old = connection.raw.info.server_version < 14_00_00
            connection.script(SETTINGS_BEFORE_14 if is_old else SETTINGS)
            if not connection.value(TAKE_LOCK, (self._key,)):
                # our own last session, of which the server does not know yet that it ended; or
                # someone who is putting our jobs back
                connection.execute(END_HOLDER, (self._key,))
                raise EngineUnavailable(
                    f"an earlier session of this worker in {self._database.place} has not ended yet"
                )
            channel = self._channel.replace('"', '""')
            connection.raw.execute(f'LISTEN "{channel}"'.encode())
            transact(connection, self._on_attach, timeout=TIMEOUT, begin=DURABLE)
        except BaseException:
            connection.close()
            raise
        return connection

    def _note_broken(self) -> None:
        """The server has closed the session."""
        if self._broken_at is None:
            self._broken_at = time.monotonic()
            log.write(
                logging.WARNING,
                "session_lost",
                "the session with PostgreSQL has ended; a new one is opened, and running jobs go on"
                " if that succeeds in time",
            )

    def _lose(self) -> None:
        self._note_broken()
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.notifier.forget()
            connection.close()


DOWN: Final = (
    "refused",
    "starting up",
    "shutting down",
    "in recovery mode",
    "not yet accepting",
)


def _is_down(error: BaseException) -> bool:
    """Whether the server can be used by no process now: its host refuses connections, or it is
    starting or stopping."""
    text = str(error).lower()
    return any(part in text for part in DOWN)


class SessionNotifier:
    """What a worker waits on: readable when the session's socket is, and when a notification came
    with the answer to something else. Its descriptor stays while sessions come and go."""

    def __init__(self, on_broken: Callable[[], None], on_notify: Callable[[str], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._on_broken = on_broken
        self._on_notify = on_notify
        self._signal, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._signal, selectors.EVENT_READ)
        self._connection: PgConnection | None = None
        self._socket = -1

    def fileno(self) -> int:
        """The descriptor to select on."""
        return self._selector.fileno()

    def watch(self, connection: PgConnection) -> None:
        """Wait for this session's notifications."""
        self._connection = connection
        self._socket = connection.raw.pgconn.socket
        self._selector.register(self._socket, selectors.EVENT_READ)
        connection.raw.add_notify_handler(self._note)

    def forget(self) -> None:
        """The session is about to be closed."""
        if self._socket != -1:
            with contextlib.suppress(KeyError, OSError, ValueError):
                self._selector.unregister(self._socket)
        self._connection, self._socket = None, -1

    def _note(self, notification: psycopg.Notify) -> None:
        self._on_notify(notification.payload)
        connection = self._connection
        if notification.payload != AGAIN or (
            connection is not None and notification.pid != connection.pid
        ):
            self.wake()

    def wake(self) -> None:
        """Make it readable."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def clear(self) -> None:
        """Consume all notifications so far; a session that has ended is noticed here."""
        connection = self._connection
        if connection is not None:
            raw = connection.raw
            try:
                if raw.closed:
                    raise psycopg.OperationalError("the session is closed")
                raw.pgconn.consume_input()
                while (found := raw.pgconn.notifies()) is not None:
                    self._on_notify(found.extra.decode())
            except psycopg.Error:
                self.forget()
                raw.close()
                self._on_broken()
        with contextlib.suppress(BlockingIOError):
            os.read(self._signal, 65536)

    def close(self) -> None:
        """Close the descriptors."""
        self._connection, self._socket = None, -1
        if self._signal != -1:
            self._selector.close()
            os.close(self._signal)
            os.close(self._wake)
            self._signal = self._wake = -1


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    for session in list(_sessions):
        session.abandon()


os.register_at_fork(after_in_child=_after_fork)
