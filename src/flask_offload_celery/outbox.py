"""The outbox: jobs that are accepted while Redis or the broker can't be reached.

They lie in a SQLite file of this machine, as durable as the embedded engine's, and are relayed in
the order in which they came as soon as the way is open again. Each enters the records exactly once:
the file numbers its jobs for ever, and the records note the highest number they have taken from it,
in the very script that takes the job. A relay that dies in between begins again with jobs that are
known already, which changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from flask_offload.engines.lock import Lock
from flask_offload.engines.sqlite.connection import Connection
from flask_offload.engines.sqlite.database import Database
from flask_offload.errors import EngineUnavailable
from flask_offload.jobs import log
from flask_offload.jobs.job import new_id
from flask_offload.jobs.new_job import NewJob

TABLES: Final = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so that "seen up to" can be trusted
    id TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL                      -- the job as JSON
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_name (name TEXT NOT NULL) STRICT;
"""
BATCH: Final = 100
AGAIN: Final = 1.0
"""Seconds between two tries of the relay."""

Deliver = Callable[[str, Sequence[tuple[int, NewJob]]], None]
"""Takes the outbox's name and numbered jobs to where they belong, or raises EngineUnavailable."""


class Outbox:
    """See the module. The file is made when it is first needed.

    durable: whether accepted jobs survive power cuts. deliver: see `Deliver`.
    """

    def __init__(self, path: Path, *, durable: bool, deliver: Deliver) -> None:
        self.path = path
        self._database = Database(path, durable=durable)
        self._deliver = deliver
        self._lock = Lock(path.with_name(path.name + ".lock"))
        self._relay: threading.Thread | None = None
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._prepared: int | None = None

    # --- the file ---

    def put(self, jobs: Sequence[NewJob]) -> None:
        """Write jobs down, all or none. Raises the subclasses of EngineUnavailable."""
        self._prepare()
        rows = [(job.id, msgspec.json.encode(job).decode()) for job in jobs]

        def work(connection: Connection) -> None:
            connection.executemany("INSERT OR IGNORE INTO outbox (id, body) VALUES (?, ?)", rows)

        self._database.write(work)

    def has_jobs(self) -> bool:
        """Whether anything waits here; then new jobs must queue up behind it."""
        if not self.path.exists():
            return False
        self._prepare()
        found: int = self._database.read(
            lambda connection: connection.execute("SELECT EXISTS (SELECT 1 FROM outbox)").get
        )
        return bool(found)

    def count(self) -> int:
        """How many jobs wait here."""
        if not self.path.exists():
            return 0
        self._prepare()
        found: int = self._database.read(
            lambda connection: connection.execute("SELECT count(*) FROM outbox").get
        )
        return found

    def get(self, job_id: str) -> NewJob | None:
        """A job that waits here."""
        if not self.path.exists():
            return None
        self._prepare()
        body = self._database.read(
            lambda connection: (
                connection.execute("SELECT body FROM outbox WHERE id = ?", (job_id,)).get
            )
        )
        return None if body is None else msgspec.json.decode(body, type=NewJob)

    def close(self) -> None:
        """Stop the relay in this process, and close the file. Jobs stay."""
        self._stopping.set()
        relay = self._relay
        if relay is not None and relay is not threading.current_thread():
            relay.join(10.0)
        self._stopping.clear()
        self._database.close()

    def forget_parent(self) -> None:
        """In a forked child: the relay is a thread of the parent's."""
        self._relay = None
        self._guard = threading.Lock()
        self._stopping = threading.Event()

    def _prepare(self) -> None:
        if self._prepared == self._database.generation:
            return

        def work(connection: Connection) -> None:
            for statement in TABLES.split(";\n"):
                connection.execute(statement)
            if not connection.execute("SELECT EXISTS (SELECT 1 FROM outbox_name)").get:
                connection.execute("INSERT INTO outbox_name VALUES (?)", (new_id(),))

        self._database.write(work)
        self._prepared = self._database.generation

    # --- the relay ---

    def relay(self) -> None:
        """See to it that a thread of this process delivers what waits here, until nothing does."""
        with self._guard:
            if self._relay is None or not self._relay.is_alive():
                self._relay = threading.Thread(target=self._work, name="offload-relay", daemon=True)
                self._relay.start()

    def _work(self) -> None:
        delivered = 0
        while not self._stopping.is_set():
            try:
                if not self.has_jobs():
                    break
                if self._lock.acquire():  # else another process is at it
                    try:
                        delivered += self._deliver_all()
                    finally:
                        self._lock.release()
            except EngineUnavailable:
                pass  # not yet
            except Exception:
                log.logger.exception("the relay of the outbox stumbled, and goes on")
            self._stopping.wait(AGAIN)
        if delivered:
            message = "%d jobs of the outbox were relayed"
            log.write(logging.INFO, "outbox_relayed", message, delivered)

    def _deliver_all(self) -> int:
        delivered = 0
        while not self._stopping.is_set():
            name, rows = self._database.read(
                lambda connection: (
                    connection.execute("SELECT name FROM outbox_name").get,
                    connection.execute(
                        "SELECT seq, body FROM outbox ORDER BY seq LIMIT ?", (BATCH,)
                    ).fetchall(),
                )
            )
            if not rows:
                break
            self._deliver(
                name, [(seq, msgspec.json.decode(body, type=NewJob)) for seq, body in rows]
            )
            self._forget(rows[-1][0])
            delivered += len(rows)
        return delivered

    def _forget(self, last: int) -> None:
        with contextlib.suppress(EngineUnavailable):  # then they are delivered again, to no effect
            self._database.write(
                lambda connection: connection.execute(
                    "DELETE FROM outbox WHERE seq <= ?", (last,)
                ).fetchall()
            )
