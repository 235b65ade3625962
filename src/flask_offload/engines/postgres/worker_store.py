"""The worker half of the PostgreSQL engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from ...errors import EngineUnavailable
from ...jobs.job import JobRecord
from ..counters import FOLD_EVERY
from ..schedules import ScheduleSpec
from ..slots import Slots
from ..sql_schedules import next_tick, tick
from ..store import NotificationSource, Pruned, Store, StoreOptions, WorkerInfo
from ..worker_locks import Registration, other_workers
from ..worker_rows import registration_row
from .claims import PostgresClaims
from .connection import PgConnection
from .maintenance import fold_counters, prune
from .recovery import REGISTER, DeadWorkers, live_workers
from .sender import PostgresSender
from .session import Session


class PostgresStore(PostgresClaims, Store):
    """A worker's store in a PostgreSQL database, through one session. folder: where this machine's
    workers have their kernel locks and slots."""

    def __init__(self, engine: PostgresSender, options: StoreOptions, folder: Path) -> None:
        """Raises EngineUnavailable."""
        self._folder = folder
        self._registration = Registration(folder, options.places)
        super().__init__(engine, self._registration.id, options.retention, options.queues)
        self.slots: Slots = self._registration.slots
        self._row = registration_row(self.worker_id, options, engine.clock())
        self._is_stopping = False
        self._next_fold = 0.0
        self.session: Session = Session(
            engine.database,
            self.worker_id,
            url=engine.direct_url,
            channel=engine.channel,
            on_attach=self._on_attach,
            on_notify=self.ready.note,
        )
        self.notifier: NotificationSource = self.session.notifier
        self._recovery = DeadWorkers(
            engine, self.session, folder, options.retention, self.worker_id
        )
        try:
            self.session.write(lambda connection: None, promise=False)
        except BaseException:
            self._leave()
            raise

    def _on_attach(self, connection: PgConnection) -> None:
        connection.execute(REGISTER, self._row)
        if self._is_stopping:
            self._note_stopping(connection)
        self.resume_claims(connection)

    def clock(self) -> float:
        """The engine's clock."""
        return self.engine.clock()

    # --- beginning and end ---

    def set_stopping(self) -> None:
        """Record that this worker claims no more jobs."""
        self._is_stopping = True
        self.session.write(self._note_stopping, promise=False)

    def _note_stopping(self, connection: PgConnection) -> None:
        connection.execute(
            "UPDATE offload.workers SET stopping = true WHERE id = %s", (self.worker_id,)
        )

    def close(self) -> None:
        """Remove this worker's row and end its session: its jobs are put back by the first worker
        that finds them without a holder."""

        def work(connection: PgConnection) -> None:
            self.tally.write(connection)
            connection.execute("DELETE FROM offload.workers WHERE id = %s", (self.worker_id,))
            connection.notify("")

        with contextlib.suppress(EngineUnavailable):
            self.session.write(work, promise=False)
        self._leave()

    def _leave(self) -> None:
        self.session.close()
        self._registration.close()

    def close_before_fork(self) -> None:
        """Close the sender's connections. The session stays: the worker's lock depends on it."""
        self.engine.close()

    def close_in_child(self) -> None:
        """Close the copies of the session's descriptors, so that it ends with the worker."""
        self.session.abandon()

    # --- other workers ---

    def recover(
        self, before: Callable[[str], object] = lambda worker_id: None
    ) -> list[tuple[str, int]]:
        """Put back the jobs of dead workers; (worker id, number of jobs) of each that had any."""
        if self.tally.has_rows():  # no other transaction has taken them along
            self.session.write(self.tally.write, promise=False)
            self.tally.committed(written=True)
        return self._recovery.recover(before)

    def workers(self) -> list[WorkerInfo]:
        """The workers that hold their locks at this moment."""
        return self.session.write(live_workers, promise=False)

    def is_asked_to_stop(self) -> bool:
        """Whether someone has asked this worker to stop."""
        statement = "SELECT stop_asked FROM offload.workers WHERE id = %s"
        return bool(
            self.session.write(
                lambda connection: connection.value(statement, (self.worker_id,)), promise=False
            )
        )

    def peer_pids(self) -> set[int]:
        """Process ids of the other workers on this machine."""
        return other_workers(self._folder, self.worker_id)

    # --- maintenance ---

    def has_changed(self) -> bool:
        """True: a notification may have been lost with a session, so it looks at every poll."""
        return True

    def prune(self) -> Pruned:
        """Delete a batch of what retention no longer keeps."""
        now = self.clock()
        if time.monotonic() >= self._next_fold:
            self._next_fold = time.monotonic() + FOLD_EVERY
            self.session.write(lambda connection: fold_counters(connection, now), promise=False)
        return self.session.write(
            lambda connection: prune(connection, now, keep_count=self._retention.count),
            promise=False,
        )

    def known_files(self) -> set[str]:
        """None: files travel among the arguments."""
        return set()

    # --- time ---

    def tick(self, spec: ScheduleSpec) -> list[JobRecord]:
        """Enqueue a job for each time of the schedule that has come; the jobs that are new."""
        now = self.clock()
        return self.session.write(lambda connection: tick(self.engine, connection, spec, now))

    def next_tick(self, spec: ScheduleSpec) -> float | None:
        """When the schedule's next time comes (unix seconds), counted from what is dealt with."""
        now = self.clock()
        return self.session.write(lambda c: next_tick(self.engine, c, spec, now), promise=False)
