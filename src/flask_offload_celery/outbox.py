"""The outbox: a SQLite file with jobs that are accepted while Redis or the broker can't be reached.

They are relayed in the order in which they came as soon as both can be reached. Each enters the
records exactly once: the file numbers its jobs and never uses a number twice, and the script that
records a job also records the highest number it has seen of that file. A relay that dies and starts
again sends jobs that are known already, which changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from flask_offload.engine_api import NewJob, log_event, new_id
from flask_offload.errors import EngineUnavailable

TABLES: Final = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice
    id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL                      -- the job as JSON
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_name (name TEXT NOT NULL) STRICT;
"""
HAS_TABLES: Final = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'outbox_name')"
BATCH: Final = 100
RETRY_EVERY: Final = 1.0
"""Seconds between two attempts of the relay."""
BUSY_TIMEOUT: Final = 5_000
"""Milliseconds to wait for another process's transaction."""

Deliver = Callable[[str, Sequence[tuple[int, NewJob]]], None]
"""Takes the outbox's name and numbered jobs and delivers them, or raises EngineUnavailable."""


class Outbox:
    """The file is created when it is first needed.

    durable: whether accepted jobs survive power cuts.
    """

    def __init__(self, path: Path, *, durable: bool, deliver: Deliver) -> None:
        self.path = path
        self._synchronous = "FULL" if durable else "NORMAL"
        self._deliver = deliver
        self.reset_after_fork()

    # --- fork: SQLite does not allow a connection that is open in two processes ---

    def before_fork(self) -> None:
        """Wait until no transaction is under way, and close the file."""
        self._file_lock.acquire()
        self._close_file()

    def after_fork_in_parent(self) -> None:
        """Let transactions begin again; the relay goes on."""
        self._file_lock.release()

    def reset_after_fork(self) -> None:
        """At first, and in a forked child, which has no relay and opens the file itself."""
        self._connection: apsw.Connection | None = None
        self._inode = 0
        self._file_lock = threading.Lock()
        self._relay: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    # --- the file ---

    def put(self, jobs: Sequence[NewJob]) -> None:
        """Add jobs, all or none. Raises EngineUnavailable."""
        rows = [(job.id, msgspec.json.encode(job).decode()) for job in jobs]
        with self._opened() as connection:
            connection.executemany("INSERT OR IGNORE INTO outbox (id, body) VALUES (?, ?)", rows)

    def has_jobs(self) -> bool:
        """Whether jobs wait here; then new jobs must wait behind them."""
        return bool(self._value("SELECT EXISTS (SELECT 1 FROM outbox)"))

    def count(self) -> int:
        """How many jobs wait here."""
        return int(self._value("SELECT count(*) FROM outbox") or 0)

    def get(self, job_id: str) -> NewJob | None:
        """A job that waits here."""
        body = self._value("SELECT body FROM outbox WHERE id = ?", job_id)
        return None if body is None else msgspec.json.decode(body, type=NewJob)

    def _value(self, query: str, *values: object) -> Any:
        """The first column of the first row; None if there is none, or no file yet."""
        if not self.path.exists():
            return None
        with self._opened() as connection:
            return connection.execute(query, values).get

    @contextlib.contextmanager
    def _opened(self) -> Iterator[apsw.Connection]:
        """A transaction on the file."""
        try:
            with self._file_lock:
                connection = self._open()
                with connection:
                    yield connection
        except (apsw.Error, OSError) as error:
            raise EngineUnavailable(
                f"the outbox {self.path} can't be used ({type(error).__name__}: {error}): look at"
                " the space on its disk and at the owner of the file"
            ) from error

    def _open(self) -> apsw.Connection:
        connection = self._connection
        if connection is not None:
            if self.path.exists() and self.path.stat().st_ino == self._inode:
                return connection
            self._close_file()  # deleted or replaced: jobs must not go into the old file
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if not connection.execute(HAS_TABLES).get:
            connection.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
            connection.execute(TABLES)
            query = "INSERT INTO outbox_name SELECT ? WHERE NOT EXISTS (SELECT 1 FROM outbox_name)"
            connection.execute(query, (new_id(),))
            connection.execute("COMMIT")
        self._connection, self._inode = connection, self.path.stat().st_ino
        return connection

    def _close_file(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # --- the relay ---

    def relay(self) -> None:
        """Deliver in a thread what waits here, until nothing does."""
        with self._lock:
            if self._relay is None or not self._relay.is_alive():
                self._relay = threading.Thread(target=self._run, name="offload-relay", daemon=True)
                self._relay.start()

    def close(self) -> None:
        """Stop the relay of this process, and close the file. Jobs stay."""
        self._closing.set()
        relay = self._relay
        if relay is not None and relay is not threading.current_thread():
            relay.join(10.0)
        self._closing.clear()
        with self._file_lock:
            self._close_file()

    def _run(self) -> None:
        delivered = 0
        while not self._closing.is_set():
            try:
                if not self.has_jobs():
                    break
                with self._only_relay() as is_only:
                    delivered += self._deliver_all() if is_only else 0
            except EngineUnavailable:
                pass  # not yet
            except Exception:
                logging.getLogger("flask_offload").exception("the relay of the outbox failed")
            self._closing.wait(RETRY_EVERY)
        if delivered:
            message = "%d jobs of the outbox were relayed"
            log_event(logging.INFO, "outbox_relayed", message, delivered)

    @contextlib.contextmanager
    def _only_relay(self) -> Iterator[bool]:
        """Whether no other process relays now. The kernel releases the lock of a dead process; two
        relays would do no harm, but send messages twice."""
        with self.path.with_name(self.path.name + ".lock").open("a") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True

    def _deliver_all(self) -> int:
        delivered = 0
        while not self._closing.is_set():
            with self._opened() as connection:
                name: Any = connection.execute("SELECT name FROM outbox_name").get
                query = "SELECT seq, body FROM outbox ORDER BY seq LIMIT ?"
                rows: list[Any] = connection.execute(query, (BATCH,)).fetchall()
            if not rows:
                break
            self._deliver(
                name, [(seq, msgspec.json.decode(body, type=NewJob)) for seq, body in rows]
            )
            # if this fails they are delivered again, to no effect
            with contextlib.suppress(EngineUnavailable), self._opened() as connection:
                connection.execute("DELETE FROM outbox WHERE seq <= ?", (rows[-1][0],))
            delivered += len(rows)
        return delivered
