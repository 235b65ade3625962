"""A worker: one supervisor and its children.

The supervisor has no threads and runs no code of the user. It alone claims jobs and writes
outcomes; its children run them. So whatever a task does to its process, the books stay right.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import click
from flask import Flask

from ..engines.sqlite.engine import SqliteEngine
from ..engines.sqlite.maintenance import is_intact
from ..engines.sqlite.notifier import Bell
from ..engines.sqlite.recovery import live_workers, register, set_stopping, unregister
from ..engines.sqlite.worker_locks import Registration, run_folder
from ..engines.sqlite.worker_store import Ledger
from ..errors import DatabaseCorrupt, EngineUnavailable
from ..payload.spool import Spool
from .children import PREFETCH_MOST
from .dispatcher import Dispatcher
from .messages import WorkerSettings
from .peers import Neighbours
from .pool import Processes
from .settings import retention

EXIT_OK, EXIT_FAILED, EXIT_IMPORT = 0, 1, 78
"""78 is EX_CONFIG of sysexits.h: the app can't be imported, so starting again won't help."""

EXIT_OTHER_ENGINE = -1
"""No exit code: what runs this app's jobs is another engine's worker."""

LAST_WORDS = 10.0
"""Seconds for writing the last outcomes when the database can't be written at the end."""
BURST_WAITS = 4.0
"""Seconds for which a burst waits for a job that comes due: a retry, or one of a full rate. Less
than UNKNOWN_DELAY, or a job whose task is unknown would keep it alive for ever."""
LOOK_AROUND = 1.0
"""Seconds between two looks for workers that are new."""


@dataclass(frozen=True)
class WorkerOptions:
    """What `flask offload worker` was told; None takes the app's setting.

    burst: end when nothing is left to run. kept_by: a descriptor whose end means that the web
    process which keeps this worker is gone; hand_over: for so many seconds it then goes on, until
    another web process's worker is up, as a recycled process may enqueue its last job just before
    it ends, and its successor may not have had a request yet. database: the file that process
    uses. explain: whether to say why the app can't be imported.
    """

    processes: int | None = None
    threads: int | None = None
    async_concurrency: int | None = None
    queues: Collection[str] | None = None
    drain_timeout: float | None = None
    burst: bool = False
    kept_by: int | None = None
    hand_over: float = 0.0
    database: str | None = None
    explain: bool = True


class Supervisor:
    """See the module. load_app: imports the app; called in the children only."""

    def __init__(self, load_app: Callable[[], Flask], options: WorkerOptions) -> None:
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._alarm, self._alarm_end = socket.socketpair()
        self._engine: SqliteEngine | None = None
        self._registration: Registration | None = None
        self._bell: Bell | None = None
        self._neighbours: Neighbours | None = None
        self._next_look = 0.0
        self._stops_asked = 0
        self._orphaned_at: float | None = None
        self._parent = os.getppid()
        self._crew = Processes(
            self._selector,
            processes=options.processes,
            threads=options.threads,
            async_concurrency=options.async_concurrency,
            load_app=load_app,
            before_fork=self._before_fork,
            in_child=self._in_child,
        )

    def run(self) -> int:
        """Until it is told to stop; the exit code."""
        self._listen()
        self._crew.start()
        settings = self._first_greeting()
        if settings is not None and self._options.database not in (None, settings.database):
            self._crew.import_failure = (
                f"what was imported uses {settings.database}, not {self._options.database}"
            )
            settings = None
        if settings is None:
            return self._give_up()
        if not settings.own_worker:
            self._crew.end()
            return EXIT_OTHER_ENGINE
        try:
            dispatcher = self._open(settings)
        except (EngineUnavailable, OSError) as error:
            click.echo(f"The worker can't start: {error}", err=True)
            self._crew.end()
            return EXIT_FAILED
        try:
            self._serve(dispatcher)
            self._drain(dispatcher, self._options.drain_timeout, settings)
        finally:
            self._close()
        return EXIT_OK

    # --- beginning ---

    def _listen(self) -> None:
        for end in (self._alarm, self._alarm_end):
            end.setblocking(False)
        signal.set_wakeup_fd(self._alarm_end.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the selector
        self._selector.register(self._alarm, selectors.EVENT_READ)
        if self._options.kept_by is not None:
            self._selector.register(self._options.kept_by, selectors.EVENT_READ)

    def _ask_to_stop(self, *_: object) -> None:
        self._stops_asked += 1

    def _first_greeting(self) -> WorkerSettings | None:
        """Wait for the first child to import the app; None if it can't, or we are to stop."""
        while self._crew.settings is None:
            self._select(1.0)
            self._crew.poll()
            if self._crew.import_failure is not None or self._stops_asked:
                return None
        return self._crew.settings

    def _give_up(self) -> int:
        self._crew.end()
        if self._crew.import_failure is None:
            return EXIT_OK
        if self._options.explain:
            click.echo(f"The worker can't import the app: {self._crew.import_failure}", err=True)
        return EXIT_IMPORT

    def _open(self, settings: WorkerSettings) -> Dispatcher:
        path = Path(settings.database)
        engine = SqliteEngine(
            path,
            durable=settings.durable,
            busy_timeout=settings.busy_timeout,
            force=settings.force,
        )
        processes = self._options.processes or settings.processes
        threads = self._options.threads or settings.threads
        coroutines = self._options.async_concurrency or settings.async_concurrency
        places = processes * (threads + PREFETCH_MOST + coroutines + 1)
        self._engine = engine
        damage = is_intact(engine)  # refuse an unusable file before all else
        if damage:
            raise DatabaseCorrupt(
                f"{path} is damaged ({damage[0].splitlines()[-1]}): stop what uses it and restore a"
                " backup, or move it away to start anew"
            )
        self._registration = registration = Registration(run_folder(path), places)
        self._crew.begin(registration.slots)
        self._bell = Bell(registration.bell_path)
        self._neighbours = Neighbours(self._selector, run_folder(path), registration.id)
        self._selector.register(self._bell, selectors.EVENT_READ)
        kept = self._options.kept_by is not None
        register(
            engine,
            registration.id,
            kind="kept" if kept else "command",
            queues=self._options.queues,
            capacity=processes * threads,
        )
        kept_for = retention(settings)
        ledger = Ledger(engine, registration.id, kept_for, self._options.queues)
        spool = Spool(settings.files, max_file=0, max_total=0) if settings.files else None
        return Dispatcher(
            ledger, self._crew, retention=kept_for, schedules=settings.schedules, spool=spool
        )

    # --- the loop ---

    def _serve(self, dispatcher: Dispatcher) -> None:
        wait = 0.0
        while not self._stops_asked:
            wait = self._turn(dispatcher, wait)
            if self._options.burst and self._is_done(dispatcher):
                return
            if self._orphaned_at is not None:
                wait = min(wait, 0.1)
                if self._has_successor():
                    return

    def _is_done(self, dispatcher: Dispatcher) -> bool:
        is_busy = self._crew.holds or not dispatcher.is_idle
        return not is_busy and not dispatcher.is_due_within(BURST_WAITS)

    def _has_successor(self) -> bool:
        """Whether another web process's worker is up, or the time of the hand-over is over."""
        assert self._engine is not None
        assert self._registration is not None
        assert self._orphaned_at is not None
        if time.monotonic() > self._orphaned_at + self._options.hand_over:
            return True
        try:
            others = live_workers(self._engine)
        except EngineUnavailable:
            return False
        return any(
            worker.kind == "kept" and worker.id != self._registration.id and not worker.stopping
            for worker in others
        )

    def _turn(self, dispatcher: Dispatcher, wait: float) -> float:
        """One round: wait for news, hear the crew, do the books."""
        self._select(wait)
        if self._rang:
            dispatcher.ring()
            if not self._crew.holds:
                dispatcher.step()  # somebody waits for nothing but us; the crew has nothing to tell
        if self._has_lost_neighbour:
            dispatcher.look_for_dead()
        now = time.monotonic()
        if self._neighbours is not None and now >= self._next_look:
            self._next_look = now + LOOK_AROUND
            self._neighbours.look()
        until_crew = self._crew.poll()
        return min(until_crew, dispatcher.step())

    def _select(self, wait: float) -> None:
        self._rang = self._has_lost_neighbour = False
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._alarm:
                with contextlib.suppress(BlockingIOError):
                    self._alarm.recv(4096)
            elif key.fileobj is self._bell and self._bell is not None:
                self._bell.clear()
                self._rang = True
            elif key.fileobj == self._options.kept_by and not os.read(key.fd, 1024):
                self._selector.unregister(key.fd)
                self._note_orphaned()
            elif self._neighbours is not None and self._neighbours.has_ended(key.fileobj):
                self._has_lost_neighbour = True
        if self._options.kept_by is not None and os.getppid() != self._parent:
            self._note_orphaned()

    def _note_orphaned(self) -> None:
        if self._orphaned_at is None:
            self._orphaned_at = time.monotonic()
            self._rang = True  # look once more before leaving

    def _drain(
        self, dispatcher: Dispatcher, timeout: float | None, settings: WorkerSettings
    ) -> None:
        """Finish what runs, within the time; put the rest back."""
        asked = min(self._stops_asked, 1)  # the second may have come before we are here
        dispatcher.is_closing = True
        assert self._engine is not None
        assert self._registration is not None
        with contextlib.suppress(EngineUnavailable):
            set_stopping(self._engine, self._registration.id)
        self._crew.drain()
        deadline = time.monotonic() + (settings.drain_timeout if timeout is None else timeout)
        wait = 0.0
        while self._crew.holds and self._stops_asked <= asked:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            wait = self._turn(dispatcher, min(wait, left))
        if self._crew.holds:
            self._crew.end()
        else:
            self._crew.close()
        self._write_the_rest(dispatcher)

    def _write_the_rest(self, dispatcher: Dispatcher) -> None:
        deadline = time.monotonic() + LAST_WORDS
        while True:
            wait = dispatcher.step()
            if not dispatcher.has_unwritten or time.monotonic() > deadline:
                return  # what is not written now is put back by whoever finds our lock free
            time.sleep(min(wait, 0.5))

    # --- end and forks ---

    def _close(self) -> None:
        assert self._engine is not None
        with contextlib.suppress(EngineUnavailable):
            if self._registration is not None:
                unregister(self._engine, self._registration.id)
            self._engine.bells.ring()  # what was put back may be wanted by another worker
        if self._bell is not None:
            self._bell.close()
        self._engine.close()
        if self._registration is not None:
            self._registration.close()
        signal.set_wakeup_fd(-1)

    def _before_fork(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._alarm.close()
        self._alarm_end.close()
        if self._options.kept_by is not None:
            os.close(self._options.kept_by)
        if self._bell is not None:
            os.close(self._bell.fileno())
        if self._neighbours is not None:
            self._neighbours.close()
