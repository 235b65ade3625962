"""Putting the jobs of dead workers back, and keeping the list of those who are alive."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .. import counters
from ..dialect import SQLITE
from ..processes import boot
from ..slots import read_started
from ..store import Retention, StoreOptions, WorkerInfo
from ..worker_locks import dead_workers, is_alive, run_folder
from ..worker_rows import WORKER_COLUMNS, registration_row, worker_info
from .completion import Completion
from .connection import Connection
from .limits import admit
from .sender import SqliteSender

HELD_BY = "SELECT seq, attempt, started_at FROM jobs WHERE state = 'running' AND worker = ?"

REGISTER = f"INSERT INTO workers ({WORKER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

WORKERS = f"SELECT {WORKER_COLUMNS}, stopping FROM workers ORDER BY started_at"

RUNNING_WORKERS = """
SELECT worker, pid, boot FROM (SELECT DISTINCT worker FROM jobs WHERE state = 'running')
LEFT JOIN workers ON workers.id = worker
"""


def register(engine: SqliteSender, worker_id: str, options: StoreOptions) -> None:
    """Write the worker's row, so that commands and pages can show it."""
    row = registration_row(worker_id, options, engine.clock())
    engine.database.write(
        lambda connection: connection.execute(REGISTER, row).fetchall(), promise=False
    )


def set_stopping(engine: SqliteSender, worker_id: str) -> None:
    """Note that the worker takes no more jobs."""
    engine.database.write(
        lambda connection: connection.execute(
            "UPDATE workers SET stopping = 1 WHERE id = ?", (worker_id,)
        ).fetchall(),
        promise=False,
    )


def unregister(engine: SqliteSender, worker_id: str) -> None:
    """Take the worker's row away."""
    engine.database.write(
        lambda connection: connection.execute(
            "DELETE FROM workers WHERE id = ?", (worker_id,)
        ).fetchall(),
        promise=False,
    )


def live_workers(engine: SqliteSender) -> list[WorkerInfo]:
    """The workers that hold their locks at this moment."""

    def work(connection: Connection) -> list[WorkerInfo]:
        return [worker_info(row) for row in connection.execute(WORKERS)]

    folder = run_folder(engine.database.path)
    return [info for info in engine.database.read(work) if is_alive(folder, info.id)]


def ask_to_stop(engine: SqliteSender, worker_id: str) -> None:
    """See Engine.stop_worker."""

    def work(connection: Connection) -> None:
        connection.execute("UPDATE workers SET stop_asked = 1 WHERE id = ?", (worker_id,))

    engine.database.write(work)


def is_asked_to_stop(engine: SqliteSender, worker_id: str) -> bool:
    """See Store.is_asked_to_stop."""
    statement = "SELECT stop_asked FROM workers WHERE id = ?"
    return bool(
        engine.database.read(lambda connection: connection.execute(statement, (worker_id,)).get)
    )


def recover(
    engine: SqliteSender,
    retention: Retention,
    own_id: str,
    before: Callable[[str], object] = lambda worker_id: None,
) -> list[tuple[str, int]]:
    """See Store.recover."""
    folder = run_folder(engine.database.path)
    found = []
    with dead_workers(folder, own_id) as dead:
        for worker_id in dict.fromkeys([*dead, *_vanished(engine, folder, own_id)]):
            before(worker_id)
            number = _recover_one(engine, retention, worker_id, folder)
            if number:
                found.append((worker_id, number))
    return found


def _recover_one(engine: SqliteSender, retention: Retention, worker_id: str, folder: Path) -> int:
    now = engine.clock()

    def work(connection: Connection) -> int:
        held = connection.execute(HELD_BY, (worker_id,)).fetchall()
        row = connection.execute("SELECT boot FROM workers WHERE id = ?", (worker_id,)).fetchone()
        # slots are shared memory: those of another run of the machine mean nothing
        same_boot = row is not None and row[0] == boot()
        started = read_started(folder / f"{worker_id}.slots") if same_boot else None
        completion = Completion(connection, worker_id, retention, now, insert=engine.insert)
        completion.put_back(held, started)
        admit(connection, now, completion.freed.concurrency, completion.freed.rates)
        counters.write(connection, SQLITE, worker_id, completion.counted)
        connection.execute("DELETE FROM workers WHERE id = ?", (worker_id,))
        return len(held)

    return engine.database.write(work)


def _vanished(engine: SqliteSender, folder: Path, own_id: str) -> list[str]:
    """Workers that hold jobs but have neither a lock file nor a living process."""

    def work(connection: Connection) -> list[tuple[str, int | None, str | None]]:
        return connection.execute(RUNNING_WORKERS).fetchall()

    return [
        worker_id
        for worker_id, pid, booted in engine.database.read(work)
        if worker_id != own_id
        and not (folder / f"{worker_id}.lock").exists()
        and not (pid is not None and booted == boot() and _process_exists(pid))
    ]


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
