"""The worker half of the SQLite engine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import msgspec

from ...errors import EngineUnavailable
from ...jobs.job import JobRecord
from ..counters import FOLD_EVERY
from ..schedules import ScheduleSpec
from ..slots import Slots
from ..sql_schedules import next_tick, tick
from ..store import NotificationSource, Pruned, Store, StoreOptions, WorkerInfo
from ..worker_locks import Registration, other_workers, run_folder
from .claims import SqliteClaims
from .maintenance import fold_counters, give_space_back, is_log_long, known_files, prune
from .notifier import NotificationPipe
from .recovery import is_asked_to_stop, live_workers, recover, register, set_stopping, unregister
from .sender import SqliteSender

FREE_PAGES = 1024
"""Pages of 4 KiB that stay in the database's file for jobs to come."""


class SqliteStore(SqliteClaims, Store):
    """A worker's store in one SQLite file. The worker is alive while it holds its lock."""

    def __init__(self, engine: SqliteSender, options: StoreOptions) -> None:
        """Raises EngineUnavailable."""
        self._folder = run_folder(engine.database.path)
        self._registration = Registration(self._folder, options.places)
        super().__init__(engine, self._registration.id, options.retention, options.queues)
        self._seen_changes: int | None = None
        self._next_fold = 0.0
        self.slots: Slots = self._registration.slots
        self._pipe = NotificationPipe(self._registration.notifier_path)
        self.notifier: NotificationSource = self._pipe
        try:
            register(engine, self.worker_id, options)
        except BaseException:
            self._leave()
            raise

    def clock(self) -> float:
        """The engine's clock."""
        return self.engine.clock()

    # --- beginning and end ---

    def set_stopping(self) -> None:
        """Record that this worker claims no more jobs."""
        set_stopping(self.engine, self.worker_id)

    def close(self) -> None:
        """Remove this worker's row, pipe, slots and lock, in this order: its jobs are put back by
        the first worker that finds the lock free."""
        with contextlib.suppress(EngineUnavailable):
            self._write_counters()
            unregister(self.engine, self.worker_id)
        self.engine.notifiers.notify()  # another worker may claim what was put back
        self._leave()

    def _write_counters(self) -> None:
        """What no other transaction has taken along."""
        if self.tally.has_rows():
            self.engine.database.write(self.tally.write, promise=False)
            self.tally.committed(written=True)

    def _leave(self) -> None:
        self._pipe.close()
        self._registration.close()

    def close_before_fork(self) -> None:
        """Close the connections."""
        self.engine.close()

    def close_in_child(self) -> None:
        """Close the copy of the pipe; the pipe itself is the worker's."""
        os.close(self._pipe.fileno())

    # --- other workers ---

    def recover(
        self, before: Callable[[str], object] = lambda worker_id: None
    ) -> list[tuple[str, int]]:
        """Put back the jobs of dead workers; (worker id, number of jobs) of each that had any."""
        self._write_counters()
        return recover(self.engine, self._retention, self.worker_id, before)

    def workers(self) -> list[WorkerInfo]:
        """The workers that hold their locks at this moment."""
        return live_workers(self.engine)

    def is_asked_to_stop(self) -> bool:
        """Whether someone has asked this worker to stop."""
        return is_asked_to_stop(self.engine, self.worker_id)

    def peer_pids(self) -> set[int]:
        """Process ids of the other workers."""
        return other_workers(self._folder, self.worker_id)

    # --- maintenance ---

    def has_changed(self) -> bool:
        """Whether another connection has written since the last call."""
        changes = self.engine.database.changes()
        is_new = changes != self._seen_changes
        self._seen_changes = changes
        return is_new

    def prune(self) -> Pruned:
        """Delete a batch of jobs, or return free pages to the file system."""
        if time.monotonic() >= self._next_fold:
            self._next_fold = time.monotonic() + FOLD_EVERY
            fold_counters(self.engine)
        pruned = prune(self.engine, keep_count=self._retention.count)
        if not pruned.has_more and give_space_back(self.engine, reserve=FREE_PAGES) > 0:
            pruned = msgspec.structs.replace(pruned, has_more=True)
        return pruned

    def is_maintenance_urgent(self) -> bool:
        """Whether the write-ahead log has grown."""
        return is_log_long(self.engine)

    def known_files(self) -> set[str]:
        """The spooled files that some job still refers to."""
        return known_files(self.engine)

    def tick(self, spec: ScheduleSpec) -> list[JobRecord]:
        """Enqueue a job for each time of the schedule that has come; the jobs that are new."""
        now = self.clock()
        return self.engine.database.write(lambda c: tick(self.engine, c, spec, now))

    def next_tick(self, spec: ScheduleSpec) -> float | None:
        """When the schedule's next time comes (unix seconds)."""
        now = self.clock()
        return self.engine.database.read(lambda c: next_tick(self.engine, c, spec, now))
