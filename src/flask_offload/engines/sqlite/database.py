"""The SQLite file: opening it safely, writing in turn, and errors in words.

One connection for writing and one for reading per process, each behind a lock: a connection per
web thread would let SQLite's own lock decide who is next, and it is not fair. No connection is open
while the process forks, and no code of the user runs inside a transaction.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

import apsw

from ...errors import DatabaseCorrupt, DatabaseGone, EngineUnavailable
from .connection import Connection
from .error_mapping import BUG, explain, locked
from .filesystem import refuse_network
from .fork_safety import ClosesBeforeFork
from .schema import check_application, migrate

T = TypeVar("T")

NORMAL, FULL = 1, 2
SAFE_SQLITE = 3_051_003
"""The first SQLite without the WAL-reset bug, which can corrupt a database with many writers."""

PRAGMAS = (
    f"synchronous = {NORMAL}",
    "journal_size_limit = 67108864",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)


class _SharedConnection:
    """One connection behind a lock.

    As a context: acquire the lock, within busy_timeout. What is left of that time
    may be spent waiting for other processes: until `give_up_at` (monotonic seconds).
    log: the inode of the write-ahead log.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.lock = threading.Lock()
        self.connection: apsw.Connection | None = None
        self.level = NORMAL
        self.give_up_at = 0.0
        self.log_path = path.with_name(path.name + "-wal")
        self.log: int | None = None
        self._path = path
        self._busy_timeout = busy_timeout
        self._moved = array("i", [0])
        self._moved_at = self._moved.buffer_info()[0]

    def __enter__(self) -> None:
        give_up_at = time.monotonic() + self._busy_timeout
        if not self.lock.acquire(timeout=self._busy_timeout):
            raise locked(self._path, self._busy_timeout)
        self.give_up_at = give_up_at

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    def file_is_gone(self, connection: apsw.Connection) -> bool:
        """Whether the path no longer leads to the file that the connection has open."""
        connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, self._moved_at)
        return bool(self._moved[0])

    def abandon_file(self) -> None:
        """Close a connection whose file is gone from the path.

        Its write-ahead log, which is still there, is put into the old file where that is possible,
        and removed: SQLite would apply it to whatever file comes to the path, and so destroy that.
        """
        with suppress(apsw.Error):
            if self.connection is not None:
                self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if self.log is not None and _inode(self.log_path) == self.log:
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        connection, self.connection = self.connection, None
        self.level = NORMAL
        if connection is not None:
            with suppress(apsw.Error):
                connection.close(force=True)


class Database(ClosesBeforeFork):
    """One job database as one process uses it. Safe to share between threads, and to fork.

    durable: whether what was promised waits for the disk (fsync), so that it survives power cuts.
    busy_timeout: seconds to wait for another's write lock. force: also on a network file system.
    """

    def __init__(
        self, path: Path, *, durable: bool = True, busy_timeout: float = 5.0, force: bool = False
    ) -> None:
        super().__init__()
        self.path = path
        self._durable = durable
        self._busy_timeout = busy_timeout
        self._force = force
        self._writer, self._reader = self._new_pair()
        self.generation: int = 0
        """It changes when what is remembered of the contents may no longer hold: when the file was
        opened, and when a transaction was undone."""

    # --- use ---

    def write(self, work: Callable[[Connection], T], *, promise: bool = True) -> T:
        """Run `work` in a write transaction; commit, or leave everything as it was.

        promise: the caller may report it as done, so it must survive a power cut; what
        can be repeated (claims, progress) does without. Raises EngineUnavailable's subclasses.
        """
        level = FULL if promise and self._durable else NORMAL
        shared = self._writer
        with shared:  # as in _use, which would take a microsecond more
            try:
                connection = self._open(shared)
                if level != shared.level:
                    connection.execute(f"PRAGMA synchronous = {level}")
                    shared.level = level
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    result = work(cast("Connection", connection))
                    connection.execute("COMMIT")
                except BaseException:
                    self.generation += 1
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                return result
            except (apsw.Error, OSError) as error:
                raise self._explain(error, shared) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot of the database; a writer is not disturbed."""
        with self._use(self._reader) as connection:
            try:
                connection.execute("BEGIN")
                return work(cast("Connection", connection))
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    def changes(self) -> int:
        """A number that differs once another connection has written."""
        with self._use(self._writer) as connection:
            version: int = connection.execute("PRAGMA data_version").get
            return version

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and empty it, if no reader is active."""
        shared = self._writer
        with self._use(shared) as connection:
            shared.give_up_at = 0.0  # to wait for a reader here would keep all writers waiting too
            with suppress(apsw.BusyError):
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        for shared in (self._writer, self._reader):
            with shared.lock:
                shared.close()

    def before_fork(self) -> None:
        """Wait until no transaction is under way, and close. See fork_safety.py."""
        for shared in (self._writer, self._reader):
            shared.lock.acquire()
            shared.close()

    def after_fork(self, *, in_child: bool) -> None:
        """Let transactions begin again."""
        if in_child:
            self._writer, self._reader = self._new_pair()
        else:
            self._writer.lock.release()
            self._reader.lock.release()

    # --- connections ---

    def _new_pair(self) -> tuple[_SharedConnection, _SharedConnection]:
        path, seconds = self.path, self._busy_timeout
        return _SharedConnection(path, seconds), _SharedConnection(path, seconds)

    @contextmanager
    def _use(self, shared: _SharedConnection) -> Iterator[apsw.Connection]:
        with shared:
            try:
                yield self._open(shared)
            except (apsw.Error, OSError) as error:
                raise self._explain(error, shared) from error

    def _open(self, shared: _SharedConnection) -> apsw.Connection:
        """Its open connection. Raises DatabaseGone if its file is no longer at the path."""
        connection = shared.connection
        if connection is None:
            connection = shared.connection = self._connect(shared)
            shared.log = _inode(shared.log_path)
            self.generation += 1
        elif shared.file_is_gone(connection):
            shared.abandon_file()
            raise DatabaseGone(
                f"{self.path} was deleted or replaced while it was in use. Nothing was done; the"
                " next call starts with the file that is there then, or a new one. Jobs that"
                " waited in the old file are only in your backup of it"
            )
        return connection

    def _connect(self, shared: _SharedConnection) -> apsw.Connection:
        self._prepare_file()
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_handler(self._wait_for_turn(shared))
            # or it would plan some statements again for each value that is bound
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            is_new = check_application(connection)  # before anything is changed
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            if is_new:  # it counts only before the first table, and is a write each time
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._use_write_ahead_log(connection, shared)
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_write_ahead_log(self, connection: apsw.Connection, shared: _SharedConnection) -> None:
        """To switch a new file over, one must be alone; SQLite does not wait for that by itself."""
        wait, calls = self._wait_for_turn(shared), 0
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except apsw.BusyError:
                if not wait(calls):
                    raise
                calls += 1

    def _prepare_file(self) -> None:
        """Make the folder (0700) and the file (0600), which the -wal and the -shm then have too."""
        if apsw.SQLITE_VERSION_NUMBER < SAFE_SQLITE:
            raise EngineUnavailable(
                f"apsw brings SQLite {apsw.sqlite_lib_version()}, which can corrupt a database that"
                " several processes write (the WAL-reset bug): pip install -U apsw"
            )
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._force:
            refuse_network(folder)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise DatabaseCorrupt(
                    f"{self.path} is not a file: set OFFLOAD_SQLITE_PATH to one"
                ) from None

    def _wait_for_turn(self, shared: _SharedConnection) -> Callable[[int], bool]:
        """A busy handler that is fair: a process that has waited longer tries more often.

        SQLite's own does the opposite, so that the newest one wins and one writer may starve. See
        docs/decisions/fair-writers.md for the figures.
        """
        began = 0.0

        def wait(calls: int) -> bool:
            nonlocal began
            now = time.monotonic()
            if calls == 0:
                began = now
            if now > shared.give_up_at:
                return False
            time.sleep(random.uniform(0.5, 1.0) * max(0.00005, 0.002 - (now - began) / 5))
            return True

        return wait

    def _explain(self, error: BaseException, shared: _SharedConnection) -> BaseException:
        """The error to raise. A connection that can't be trusted any more is closed."""
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            return locked(self.path, self._busy_timeout)
        if isinstance(error, BUG):
            return error  # a defect of Flask-Offload: not hidden
        explained = explain(error, self.path, shared.connection)
        shared.close()
        return explained


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
