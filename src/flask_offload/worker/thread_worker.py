"""A worker inside the web process, for OFFLOAD_WORKER = "thread" and apps that no child can import.

Threads share the interpreter with the requests, and a task that never reaches a checkpoint can't be
stopped: prefer the worker process. Jobs are just as durable, and are put back when this process
dies.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import threading
import time

from .. import signals
from ..engines.host import Host
from ..engines.store import Store, StoreOptions
from ..errors import EngineUnavailable
from ..jobs import log
from .dispatcher import Dispatcher
from .settings import retention_of, schedule_specs
from .thread_pool import ThreadPool

RESTART_PAUSE = 1.0
"""Seconds after which a worker that could not open its store tries again."""


class ThreadWorker:
    """Runs the app's jobs in threads of this process, from `start` until `stop`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stop_at: float | None = None
        self._pool: ThreadPool | None = None
        self._thread = threading.Thread(target=self._run, name="offload-worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, drain_timeout: float) -> None:
        """Finish what runs, within so many seconds, and give the rest back."""
        self._stop_at = time.monotonic() + drain_timeout
        pool = self._pool
        if pool is not None:
            with contextlib.suppress(OSError):  # it may have closed its sockets just now
                pool.wake()
        self._thread.join(drain_timeout + 5)

    def _run(self) -> None:
        while self._stop_at is None:
            try:
                self._serve()
            except EngineUnavailable as error:
                log.write(logging.ERROR, "database_unavailable", "%s", error)
                time.sleep(RESTART_PAUSE)

    def _serve(self) -> None:
        host = self._host
        with host.app.app_context():
            schedules = schedule_specs(host)
        store = host.engine.open_store(
            StoreOptions(
                kind="thread",
                retention=retention_of(host),
                places=ThreadPool.places(host),
                capacity=host.config.worker_threads,
            )
        )
        self._pool = pool = ThreadPool(host, store.slots)
        dispatcher = Dispatcher(store, pool, schedules=schedules, spool=host.spool)
        signals.send(signals.worker_started, host.app, worker=store.worker_id)
        try:
            self._loop(store, pool, dispatcher)
        finally:
            self._pool = None
            pool.stop()
            store.close()
            signals.send(signals.worker_stopped, host.app, worker=store.worker_id)

    def _loop(self, store: Store, pool: ThreadPool, dispatcher: Dispatcher) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(store.notifier, selectors.EVENT_READ)
            selector.register(pool, selectors.EVENT_READ)
            wait = 0.0
            while True:
                ready = selector.select(wait)
                is_notified = any(key.fileobj is store.notifier for key, _ in ready)
                if is_notified:
                    store.notifier.clear()
                if self._stop_at is not None and not dispatcher.is_draining:
                    dispatcher.drain()
                wait = dispatcher.turn(is_notified=is_notified)
                if self._stop_at is not None:
                    left = self._stop_at - time.monotonic()
                    if left <= 0 or not (pool.holds or dispatcher.has_unwritten):
                        return
                    wait = min(wait, left)
