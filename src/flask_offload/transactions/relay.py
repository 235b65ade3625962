"""From the outbox to the engine, after the commit: each job once, those of a transaction in order.

A batch is read, accepted by the engine, and deleted, in three short transactions, so that neither
database waits for the other. A crash in between leaves rows whose ids the engine has noted, so that
they are deleted and not run again.

A delete keeps other writers of a SQLite database waiting: so rows are deleted together, some
seconds later.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy.engine import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from ..engines.base import Engine
from ..errors import EngineUnavailable
from ..jobs import log
from .outbox import BATCH, OutboxTable
from .relayed import RELAY_WITHIN

RETRY_EVERY: Final = 1.0
SWEEP_EVERY: Final = 2.0
DELETE_AFTER: Final = 2.0
"""Seconds for which rows stay that were relayed, unless there are BATCH of them before."""
SWEEP_AFTER: Final = 3 * DELETE_AFTER
"""Seconds that a row's own process has for it."""
LINGER: Final = 10.0
"""Seconds for which an idle thread waits for more."""
EXIT_TIMEOUT: Final = 2.0
"""Seconds that a process which ends takes at most to relay what it has committed."""

Batch = tuple[Database, list[str]]


class Relay:
    """Relays in a thread of its own, which is started when it is needed."""

    def __init__(self, engine: Engine, outbox: OutboxTable) -> None:
        self._engine = engine
        self._outbox = outbox
        self.reset()
        _relays.add(self)

    def reset(self) -> None:
        """At first, and in a forked child: the rows of its parent are relayed by that."""
        self._changed = threading.Condition()
        self._batches: list[Batch] = []
        self._relayed: dict[Database, list[str]] = {}
        self._delete_at = 0.0
        self._busy = False
        self._is_closing = False
        self._waiters = 0
        self._thread: threading.Thread | None = None
        self._sweeps: Callable[[], Database] | None = None
        self._next_sweep = 0.0

    # --- what is asked for ---

    def submit(self, database: Database, ids: Sequence[str]) -> None:
        """Relay these jobs soon; does not wait."""
        with self._changed:
            for start in range(0, len(ids), BATCH):
                self._batches.append((database, list(ids[start : start + BATCH])))
            self._start()

    def sweep(self, database: Callable[[], Database]) -> None:
        """From now on, relay what other processes have left."""
        with self._changed:
            self._sweeps = database
            self._start()

    def stop(self) -> None:
        """End the thread once it is idle."""
        with self._changed:
            self._sweeps = None
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until all is relayed and deleted; False if it takes longer than that many
        seconds."""
        with self._changed:
            self._waiters += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._has_work(), timeout)
            finally:
                self._waiters -= 1

    def close(self) -> None:
        """End the thread, and wait for that."""
        with self._changed:
            self._is_closing, self._sweeps = True, None
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(10.0)
        if thread is None or not thread.is_alive():
            self._delete_relayed()
        self._is_closing = False

    # --- one batch ---

    def relay(self, database: Database, *, ids: Sequence[str] = (), before: float = 0.0) -> int:
        """Relay one batch now; how many jobs it had. Raises EngineUnavailable and SQLAlchemy's
        errors; it may be repeated."""
        taken = self._pass_on(database, ids=ids, before=before)
        self._delete(database, taken)
        return len(taken)

    def _pass_on(
        self, database: Database, *, ids: Sequence[str] = (), before: float = 0.0
    ) -> list[str]:
        """Have one batch accepted by the engine; its ids."""
        deadline = time.monotonic() + RELAY_WITHIN
        jobs = self._outbox.take(database, ids=ids, before=before)
        if jobs:
            self._engine.relay(jobs, deadline)
        return [job.id for job in jobs]

    def _delete(self, database: Database, ids: Sequence[str]) -> None:
        """Delete the rows of jobs that the engine has accepted."""
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            self._outbox.delete(database, batch)
            with contextlib.suppress(EngineUnavailable):  # then it is noted for longer
                self._engine.forget_relayed(batch)

    # --- the thread ---

    def _start(self) -> None:
        self._changed.notify_all()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="offload-relay", daemon=True)
            self._thread.start()

    def _has_work(self) -> bool:
        return bool(self._batches) or self._busy or bool(self._relayed)

    def _is_due(self) -> bool:
        is_awaited = self._waiters > 0 and bool(self._relayed)
        return bool(self._batches) or self._is_closing or is_awaited

    def _next(self) -> list[Batch] | None:
        """Wait for batches, or for the moment to delete or to sweep; None if the thread ends."""
        with self._changed:
            patience = SWEEP_EVERY if self._sweeps is not None else LINGER
            if self._relayed:
                patience = min(patience, max(0.0, self._delete_at - time.monotonic()))
            self._changed.wait_for(self._is_due, patience)
            if self._is_closing or not (self._has_work() or self._sweeps is not None):
                self._thread = None
                return None
            batches, self._batches = self._batches, []
            self._busy = True
            return batches

    def _run(self) -> None:
        while (batches := self._next()) is not None:
            left, is_deleted = batches, False
            try:
                left = self._relay_all(batches)
                is_deleted = self._delete_relayed()
            except Exception:
                logging.getLogger("flask_offload").exception("the relay of the outbox failed")
            finally:
                with self._changed:
                    self._batches = left + self._batches
                    self._busy = False
                    self._changed.notify_all()
            if left or not is_deleted:
                time.sleep(RETRY_EVERY)

    def _relay_all(self, batches: list[Batch]) -> list[Batch]:
        """Those that could not be relayed yet: the first that failed and all behind it."""
        for number, (database, ids) in enumerate(batches):
            try:
                taken = self._pass_on(database, ids=ids)
            except (EngineUnavailable, SQLAlchemyError) as error:
                message = "jobs of the outbox can't be relayed yet: %s"
                log.write(logging.WARNING, "outbox_waits", message, error)
                return batches[number:]
            if not self._relayed:
                self._delete_at = time.monotonic() + DELETE_AFTER
            self._relayed.setdefault(database, []).extend(taken)
        if self._sweeps is not None and time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_EVERY
            with contextlib.suppress(EngineUnavailable, SQLAlchemyError):
                database = self._sweeps()
                while self.relay(database, before=time.time() - SWEEP_AFTER) == BATCH:
                    pass
        return []

    def _delete_relayed(self) -> bool:
        """Delete the rows of relayed jobs if it is time; False if that fails."""
        is_time = self._waiters > 0 or self._is_closing or time.monotonic() >= self._delete_at
        for database, ids in list(self._relayed.items()):
            if is_time or len(ids) >= BATCH:
                try:
                    self._delete(database, ids)
                except SQLAlchemyError as error:
                    message = "relayed jobs can't be deleted from the outbox yet: %s"
                    log.write(logging.WARNING, "outbox_waits", message, error)
                    return False
                del self._relayed[database]
        return True


_relays: weakref.WeakSet[Relay] = weakref.WeakSet()


def _at_exit() -> None:
    for relay in list(_relays):
        relay.wait(EXIT_TIMEOUT)


def _after_fork() -> None:
    for relay in list(_relays):
        relay.reset()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
