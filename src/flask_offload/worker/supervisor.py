"""A worker: one supervisor and its pool of child processes.

The supervisor has no threads and runs no code of the user. It alone claims jobs and records
outcomes; its children run them. So the store stays right whatever a task does to its process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import click
from flask import Flask

from ..engines.base import Engine
from ..engines.store import Store, StoreOptions
from ..errors import EngineUnavailable
from ..jobs import log
from ..payload.spool import Spool
from .app_locator import EXIT_IMPORT
from .child_handle import PREFETCH_MOST, PoolSize
from .dispatcher import Dispatcher
from .messages import WorkerSettings
from .peers import Peers
from .process_pool import ProcessPool
from .programs import adopt_orphans

EXIT_OK, EXIT_FAILED = 0, 1

EXIT_OTHER_ENGINE = -1
"""No exit code: what runs this app's jobs is another engine's worker."""

FINAL_WRITE_TIMEOUT = 10.0
"""Seconds for recording the last outcomes when the database can't be written at the end."""
BURST_WAITS = 4.0
"""Seconds for which a burst waits for a job that comes due: a retry, or one of a full rate. Less
than UNKNOWN_DELAY, or a job whose task is unknown would keep it alive forever."""
LOOK_FOR_PEERS = 1.0
"""Seconds between two looks for workers that are new."""


@dataclass(frozen=True)
class WorkerOptions(PoolSize):
    """The options of `flask offload worker`; None takes the app's setting.

    burst: end when nothing is left to run. kept_by: a descriptor whose end means that the web
    process which keeps this worker is gone; hand_over: for so many seconds it then goes on, until
    another web process's worker is up, as a recycled process may enqueue its last job just before
    it ends, and its successor may not have had a request yet. database: the file that process
    uses. explain: whether to log why the app can't be imported. introduction: what to log when the
    worker is ready.
    """

    queues: Collection[str] | None = None
    drain_timeout: float | None = None
    burst: bool = False
    kept_by: int | None = None
    introduction: str = ""
    hand_over: float = 0.0
    database: str | None = None
    explain: bool = True


class Supervisor:
    """Owns the selector and the signals. load_app: imports the app; called in the children only."""

    def __init__(self, load_app: Callable[[], Flask], options: WorkerOptions) -> None:
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._alarm, self._alarm_end = socket.socketpair()
        self._engine: Engine | None = None
        self._store: Store | None = None
        self._peers: Peers | None = None
        self._next_look = 0.0
        self._stops_asked = 0
        self._orphaned_at: float | None = None
        self._parent = os.getppid()
        self._pool = ProcessPool(
            options,
            load_app=load_app,
            before_fork=self._before_fork,
            in_child=self._in_child,
        )

    def run(self) -> int:
        """Run until a stop is requested; the exit code."""
        self._listen()
        self._pool.start()
        settings = self._first_settings()
        if settings is not None and self._options.database not in (None, settings.database):
            self._pool.import_failure = (
                f"what was imported uses {settings.database}, not {self._options.database}"
            )
            settings = None
        if settings is None:
            return self._give_up()
        if not settings.own_worker:
            self._pool.kill()
            return EXIT_OTHER_ENGINE
        try:
            dispatcher = self._open(settings)
        except (EngineUnavailable, OSError) as error:
            click.echo(f"The worker can't start: {error}", err=True)
            self._pool.kill()
            return EXIT_FAILED
        try:
            self._serve(dispatcher)
            self._drain(dispatcher, settings)
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
        adopt_orphans()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the selector
        self._selector.register(self._alarm, selectors.EVENT_READ)
        self._selector.register(self._pool, selectors.EVENT_READ)
        if self._options.kept_by is not None:
            self._selector.register(self._options.kept_by, selectors.EVENT_READ)

    def _ask_to_stop(self, *_: object) -> None:
        self._stops_asked += 1

    def _first_settings(self) -> WorkerSettings | None:
        """Wait for the first child to import the app; None if it can't, or the worker stops."""
        while self._pool.settings is None:
            self._select(1.0)
            self._pool.poll()
            if self._pool.import_failure is not None or self._stops_asked:
                return None
        return self._pool.settings

    def _give_up(self) -> int:
        self._pool.kill()
        if self._pool.import_failure is None:
            return EXIT_OK
        if self._options.explain:
            click.echo(f"The worker can't import the app: {self._pool.import_failure}", err=True)
        return EXIT_IMPORT

    def _open(self, settings: WorkerSettings) -> Dispatcher:
        config, options = settings.config, self._options
        processes = options.processes or config.worker_processes
        threads = options.threads or config.worker_threads
        coroutines = options.async_concurrency or config.async_concurrency
        opener = EntryPoint("opener", settings.opener, "")
        self._engine = engine = opener.load()(settings.database, config)
        self._store = store = engine.open_store(
            StoreOptions(
                kind="command" if options.kept_by is None else "kept",
                retention=settings.retention,
                places=processes * (threads + PREFETCH_MOST + coroutines + 1),
                capacity=processes * threads,
                queues=None if options.queues is None else frozenset(options.queues),
            )
        )
        self._pool.begin(store.slots)
        if options.introduction:
            log.write(logging.INFO, "worker_ready", "%s", options.introduction)
        self._peers = Peers(self._selector, store.peer_pids)
        self._selector.register(store.notifier, selectors.EVENT_READ)
        spool = Spool(settings.files, max_file=0, max_total=0) if settings.files else None
        return Dispatcher(store, self._pool, schedules=settings.schedules, spool=spool)

    # --- the loop ---

    def _serve(self, dispatcher: Dispatcher) -> None:
        wait = 0.0
        while not self._stops_asked and not dispatcher.is_asked_to_stop:
            wait = self._turn(dispatcher, wait)
            if self._options.burst and self._is_done(dispatcher):
                return
            if self._orphaned_at is not None:
                wait = min(wait, 0.1)
                if self._has_successor():
                    return

    def _is_done(self, dispatcher: Dispatcher) -> bool:
        is_busy = self._pool.holds or not dispatcher.is_idle
        return not is_busy and not dispatcher.is_due_within(BURST_WAITS)

    def _has_successor(self) -> bool:
        """Whether another web process's worker is up, or the time of the hand-over is over."""
        assert self._store is not None
        assert self._orphaned_at is not None
        if time.monotonic() > self._orphaned_at + self._options.hand_over:
            return True
        try:
            others = self._store.workers()
        except EngineUnavailable:
            return False
        return any(
            worker.kind == "kept" and worker.id != self._store.worker_id and not worker.stopping
            for worker in others
        )

    def _turn(self, dispatcher: Dispatcher, wait: float) -> float:
        """One round: wait for an event, then let the dispatcher act on it."""
        is_notified, has_lost_peer = self._select(wait)
        if has_lost_peer:
            dispatcher.look_for_dead()
        now = time.monotonic()
        if self._peers is not None and now >= self._next_look:
            self._next_look = now + LOOK_FOR_PEERS
            self._peers.look()
        return dispatcher.turn(is_notified=is_notified)

    def _select(self, wait: float) -> tuple[bool, bool]:
        """Wait for an event; whether the store has changed, and whether another worker ended."""
        is_notified = has_lost_peer = False
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._alarm:
                with contextlib.suppress(BlockingIOError):
                    self._alarm.recv(4096)
            elif self._store is not None and key.fileobj is self._store.notifier:
                self._store.notifier.clear()
                is_notified = True
            elif key.fileobj == self._options.kept_by and not os.read(key.fd, 1024):
                self._selector.unregister(key.fd)
                is_notified |= self._note_orphaned()
            elif self._peers is not None and self._peers.has_ended(key.fileobj):
                has_lost_peer = True
        if self._options.kept_by is not None and os.getppid() != self._parent:
            is_notified |= self._note_orphaned()
        return is_notified, has_lost_peer

    def _note_orphaned(self) -> bool:
        """The web process that kept this worker is gone; whether that is new, so that the store is
        looked at once more before leaving."""
        is_new = self._orphaned_at is None
        if is_new:
            self._orphaned_at = time.monotonic()
        return is_new

    def _drain(self, dispatcher: Dispatcher, settings: WorkerSettings) -> None:
        """Finish what runs, within the time; give the rest back."""
        asked = min(self._stops_asked, 1)  # the second may have come before this line
        dispatcher.drain()
        timeout = self._options.drain_timeout
        if timeout is None:
            timeout = settings.config.drain_timeout
        deadline = time.monotonic() + timeout
        wait = 0.0
        while self._pool.holds and self._stops_asked <= asked:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            wait = self._turn(dispatcher, min(wait, left))
        self._pool.stop()
        self._write_the_rest(dispatcher)

    def _write_the_rest(self, dispatcher: Dispatcher) -> None:
        deadline = time.monotonic() + FINAL_WRITE_TIMEOUT
        while True:
            wait = dispatcher.turn()
            if not dispatcher.has_unwritten or time.monotonic() > deadline:
                return  # the rest is put back by the worker that recovers this one
            time.sleep(min(wait, 0.5))

    # --- end and forks ---

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
        if self._engine is not None:
            self._engine.close()
        signal.set_wakeup_fd(-1)

    def _before_fork(self) -> None:
        if self._store is not None:
            self._store.close_before_fork()

    def _in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._alarm.close()
        self._alarm_end.close()
        if self._options.kept_by is not None:
            os.close(self._options.kept_by)
        if self._store is not None:
            self._store.close_in_child()
        if self._peers is not None:
            self._peers.close()
