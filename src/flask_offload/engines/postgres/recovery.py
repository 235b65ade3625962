"""Putting the jobs of dead workers back, and the list of workers that are alive.

A worker is alive while its session holds its advisory lock. Where it runs on this machine its
kernel lock says the same at once; of another machine's worker, whose session may have ended while
its process goes on, the jobs are put back after REATTACH_GRACE, within which it can come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .. import counters
from ..dialect import POSTGRES
from ..processes import boot
from ..slots import read_started
from ..store import Retention, WorkerInfo
from ..worker_locks import dead_workers
from ..worker_rows import WORKER_COLUMNS, worker_info
from .completion import BatchCompletion
from .connection import PgConnection
from .limits import admit
from .sender import PostgresSender
from .session import END_HOLDER, Session, lock_key

REATTACH_GRACE: Final = 2.5
"""Seconds that another machine's worker has to come back after its session ended."""

ENDING_TAKES: Final = 0.5
"""Seconds that the server may take to notice the end of a process on this machine."""

HELD_BY = """
SELECT seq, attempt, started_at FROM offload.jobs WHERE state = 'running' AND worker = %s
FOR UPDATE
"""

LOCKS = """
SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

KNOWN = """
SELECT id, true FROM offload.workers
UNION ALL
SELECT DISTINCT worker, false FROM offload.jobs
WHERE state = 'running' AND worker NOT IN (SELECT id FROM offload.workers)
"""

TRY_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"

REGISTER = f"""
INSERT INTO offload.workers ({WORKER_COLUMNS})
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

WORKERS = f"SELECT {WORKER_COLUMNS}, stopping FROM offload.workers ORDER BY started_at"


def live_workers(connection: PgConnection) -> list[WorkerInfo]:
    """The workers whose sessions hold their locks at this moment."""
    held = {key for (key,) in connection.execute(LOCKS)}
    return [
        worker_info(row)
        for row in connection.execute(WORKERS)
        if lock_key(connection.schema, row[0]) in held
    ]


class DeadWorkers:
    """Finds dead workers for one that is alive. folder: the run folder of this machine."""

    def __init__(
        self,
        engine: PostgresSender,
        session: Session,
        folder: Path,
        retention: Retention,
        own_id: str,
    ) -> None:
        self._engine = engine
        self._session = session
        self._folder = folder
        self._retention = retention
        self._own_id = own_id
        self._free_since: dict[str, float] = {}

    def recover(self, before: Callable[[str], object]) -> list[tuple[str, int]]:
        """See Store.recover."""
        known, gone = self._without_lock()
        found = []
        with dead_workers(self._folder, self._own_id) as dead:
            dead_here = [worker_id for worker_id in dead if worker_id in known]
            for worker_id in dict.fromkeys([*dead_here, *gone]):
                number = self._recover_one(worker_id, before, is_dead=worker_id in dead_here)
                if number:
                    found.append((worker_id, number))
        return found

    def _without_lock(self) -> tuple[set[str], list[str]]:
        """All workers that have a row or jobs; and those of them that have had no lock for long
        enough."""

        def work(connection: PgConnection) -> tuple[list[tuple[str, bool]], set[int]]:
            known = connection.execute(KNOWN).fetchall()
            held = {key for (key,) in connection.execute(LOCKS)}
            return known, held

        known, held = self._session.write(work, promise=False)
        now = time.monotonic()
        schema = self._engine.database.names.schema
        free = {
            worker_id: is_registered
            for worker_id, is_registered in known
            if worker_id != self._own_id and lock_key(schema, worker_id) not in held
        }
        # what was seen before this session began does not count: the server may have been down
        began = self._session.attached_at
        self._free_since = {
            worker_id: max(began, self._free_since.get(worker_id, now)) for worker_id in free
        }
        gone = [
            worker_id
            for worker_id, is_registered in free.items()
            if not is_registered or now - self._free_since[worker_id] >= REATTACH_GRACE
        ]
        return {worker_id for worker_id, _ in known}, gone

    def _recover_one(
        self, worker_id: str, before: Callable[[str], object], *, is_dead: bool
    ) -> int:
        now = self._engine.clock()
        key = lock_key(self._engine.database.names.schema, worker_id)

        def work(connection: PgConnection) -> int:
            # held until the commit, so that neither the worker nor another recovery comes between
            give_up = time.monotonic() + (ENDING_TAKES if is_dead else 0.0)
            while not connection.value(TRY_LOCK, (key,)):
                if time.monotonic() > give_up:
                    if is_dead:  # a process that it has forked has its connection: end that
                        connection.execute(END_HOLDER, (key,))
                    return 0
                time.sleep(0.01)
            before(worker_id)
            held = connection.execute(HELD_BY, (worker_id,)).fetchall()
            started = self._started(connection, worker_id)
            completion = BatchCompletion(
                connection, worker_id, self._retention, now, insert=self._engine.insert
            )
            completion.put_back(held, started)
            admit(connection, now, completion.freed.concurrency, completion.freed.rates)
            counters.write(connection, POSTGRES, worker_id, completion.counted)
            connection.execute("DELETE FROM offload.workers WHERE id = %s", (worker_id,))
            if held:
                connection.notify("")
            return len(held)

        return self._session.write(work)

    def _started(self, connection: PgConnection, worker_id: str) -> set[int] | None:
        """The jobs that had started; None if that can't be said."""
        there = connection.value("SELECT boot FROM offload.workers WHERE id = %s", (worker_id,))
        if there != boot():  # slots are shared memory of one run of a machine
            return None
        return read_started(self._folder / f"{worker_id}.slots")
