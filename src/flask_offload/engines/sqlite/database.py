"""The SQLite file: opening it safely, writing in turn, and errors in words.

One connection for writing and one for reading per process, each behind a lock: a connection per
web thread would let SQLite's own lock decide who is next, and it is not fair. Connections never
cross a fork, and no code of the user runs inside a transaction.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import apsw

from ...errors import (
    DatabaseCorrupt,
    DatabaseFull,
    DatabaseGone,
    DatabaseLocked,
    DatabaseReadOnly,
    EngineUnavailable,
)
from .connection import Connection
from .filesystem import refuse_network
from .holder import described, wake_stopped_holder, write_lock_holder
from .schema import migrate

T = TypeVar("T")

NORMAL, FULL = 1, 2
SUSPECT_AFTER = 1.0
"""Seconds of waiting for the write lock after which its holder may be stopped: see holder.py."""
SAFE_SQLITE = 3_051_003
"""The first SQLite without the WAL-reset bug, which can corrupt a database with many writers."""

PRAGMAS = (
    "auto_vacuum = INCREMENTAL",  # counts only before the first table
    "journal_mode = WAL",
    f"synchronous = {NORMAL}",
    "journal_size_limit = 67108864",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)

_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_left_by_parent: list[Any] = []  # connections of the parent process: kept, so that none is closed


class _Line:
    """One connection behind a lock, and which file it has open.

    As a context: wait for one's turn, but not longer than busy_timeout. What is left of that time
    may be spent on waiting for other processes: until `give_up_at` (monotonic seconds).
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.lock = threading.Lock()
        self.connection: apsw.Connection | None = None
        self.identity: tuple[int, int] | None = None
        self.level = NORMAL
        self.give_up_at = 0.0
        self._path = path
        self._busy_timeout = busy_timeout

    def __enter__(self) -> None:
        give_up_at = time.monotonic() + self._busy_timeout
        if not self.lock.acquire(timeout=self._busy_timeout):
            raise _locked(self._path, self._busy_timeout)
        self.give_up_at = give_up_at

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.identity = None
        self.level = NORMAL


class Database:
    """One job database as one process uses it. Safe to share between threads.

    durable: whether what was promised waits for the disk (fsync), so that it survives power cuts.
    busy_timeout: seconds to wait for another process's write lock.
    """

    def __init__(
        self, path: Path, *, durable: bool = True, busy_timeout: float = 5.0, force: bool = False
    ) -> None:
        self.path = path
        self._durable = durable
        self._busy_timeout = busy_timeout
        self._force = force
        self._writer, self._reader = self._new_lines()
        self.openings = 0
        """How often the file was opened; what is remembered of its contents counts for one."""
        _open_databases.add(self)

    # --- use ---

    def write(self, work: Callable[[Connection], T], *, promise: bool = True) -> T:
        """Run `work` in a write transaction; commit, or leave everything as it was.

        promise: the caller tells somebody that it is done, so it must survive a power cut; what
        can be repeated (claims, progress) does without. Raises EngineUnavailable's subclasses.
        """
        level = FULL if promise and self._durable else NORMAL
        line = self._writer
        with line:
            try:
                connection = self._open(line)
                if level != line.level:
                    connection.execute(f"PRAGMA synchronous = {level}")
                    line.level = level
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    result = work(cast("Connection", connection))
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                return result
            except (apsw.Error, OSError) as error:
                raise self._explain(error, line) from error

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a snapshot of the database; a writer is not disturbed."""
        line = self._reader
        with line:
            try:
                connection = self._open(line)
                try:
                    connection.execute("BEGIN")
                    return work(cast("Connection", connection))
                finally:
                    if connection.in_transaction:
                        connection.execute("COMMIT")
            except (apsw.Error, OSError) as error:
                raise self._explain(error, line) from error

    def changes(self) -> int:
        """A number that differs once another connection has written."""
        line = self._writer
        with line:
            try:
                version: int = self._open(line).execute("PRAGMA data_version").get
                return version
            except (apsw.Error, OSError) as error:
                raise self._explain(error, line) from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and empty it, if nobody is reading just now."""
        with self._writer.lock:
            if self._writer.connection is not None:
                with suppress(apsw.BusyError):
                    self._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        for line in (self._writer, self._reader):
            with line.lock:
                line.close()

    # --- connections ---

    def _new_lines(self) -> tuple[_Line, _Line]:
        return _Line(self.path, self._busy_timeout), _Line(self.path, self._busy_timeout)

    def _open(self, line: _Line) -> apsw.Connection:
        """This line's connection. Raises DatabaseGone if its file is no longer at the path."""
        if line.connection is None:
            line.connection = self._connect(line)
            self.openings += 1
            line.identity = _identity(self.path)
        elif _identity(self.path) != line.identity:
            line.close()
            raise DatabaseGone(
                f"{self.path} was deleted or replaced while it was in use. Nothing was done; the"
                " next call starts with the file that is there then, or a new one. Jobs that"
                " waited in the old file are only in your backup of it"
            )
        return line.connection

    def _connect(self, line: _Line) -> apsw.Connection:
        self._prepare_file()
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_handler(self._wait_for_turn(line))
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_file(self) -> None:
        """Make the folder (0700) and the file (0600), which SQLite's companions then copy."""
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

    def _wait_for_turn(self, line: _Line) -> Callable[[int], bool]:
        """A busy handler that is fair: whoever has waited longer asks more often.

        SQLite's own backs off, so that the latest comer wins and one writer may starve.
        """
        began = suspect_at = 0.0

        def wait(calls: int) -> bool:
            nonlocal began, suspect_at
            now = time.monotonic()
            if calls == 0:
                began = now
                suspect_at = now + min(SUSPECT_AFTER, self._busy_timeout / 2)
            if now > line.give_up_at:
                return False
            if now > suspect_at:
                suspect_at = now + SUSPECT_AFTER
                wake_stopped_holder(self.path)
            time.sleep(random.uniform(0.5, 1.0) * max(0.00005, 0.001 - (now - began) / 50))
            return True

        return wait

    # --- errors ---

    def _explain(self, error: BaseException, line: _Line) -> BaseException:
        """The same trouble in our words. A connection that can't be trusted is closed."""
        path = self.path
        if isinstance(error, apsw.BusyError | apsw.LockedError):
            return _locked(path, self._busy_timeout)
        number = getattr(error, "errno", None)
        if isinstance(error, apsw.FullError) or number in (errno.ENOSPC, errno.EDQUOT):
            return DatabaseFull(f"no room left on the disk of {path}: make room and try again")
        if isinstance(error, apsw.ConstraintError | apsw.SQLError):
            return error  # a bug of ours: let it be seen
        line.close()
        if isinstance(error, apsw.NotADBError | apsw.CorruptError):
            return DatabaseCorrupt(
                f"{path} is not a usable job database ({error}):"
                " restore a backup, or move it away to start anew"
            )
        if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError) or (
            number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)
        ):
            return DatabaseReadOnly(
                f"{path} can't be opened for writing ({error}): mend the permissions of the file"
                " and of its folder, or set OFFLOAD_SQLITE_PATH"
            )
        return EngineUnavailable(f"the job database {path} can't be used just now: {error}")

    # --- forks ---

    def _leave_to_parent(self) -> None:
        """In a forked child: use neither the connections nor the locks of the parent."""
        _left_by_parent.extend((self._writer.connection, self._reader.connection))
        self._writer, self._reader = self._new_lines()


def _locked(path: Path, seconds: float) -> DatabaseLocked:
    holder = write_lock_holder(path)
    who = "another program" if holder is None else described(holder)
    if holder == os.getpid():
        who = "another thread of this process"
    return DatabaseLocked(
        f"{who} has held {path} locked for {seconds:g} s: end it, or wait until it lets go"
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _after_fork() -> None:
    for database in list(_open_databases):
        database._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
