"""`flask offload worker` on the Celery engine: a Celery worker that loses no job.

It also runs the engine's maintenance, and drains as Flask-Offload does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery import Celery, bootsteps
from celery import signals as celery_signals
from celery.worker import state as celery_state

from flask_offload import signals
from flask_offload.engine_api import WorkOptions, add_job_fields, log_event, schedule_specs
from flask_offload.errors import EngineUnavailable

from .celery_task import AnonymousTask, OffloadTask
from .connections import Connections
from .consumer import OffloadConsumer
from .forked import prepare_process
from .pool import CeleryPool
from .setup import configure_worker, warnings_about
from .worker_identity import WorkerIdentity

QUIET: Final[dict[str, Any]] = {
    "quiet": True,
    # workers find each other through the store, not through the broker
    "without_mingle": True,
    "without_gossip": True,
    "without_heartbeat": True,
}
QUEUES_EVERY: Final = 2.0
"""Seconds between two searches for new queues."""


def work(connections: Connections, options: WorkOptions) -> int:
    """Run a worker until it is asked to stop; the exit code. Raises ConfigError."""
    celery, host = connections.celery, connections.host
    configure_worker(celery, host)
    for warning in warnings_about(celery, host):
        log_event(logging.WARNING, "celery_setting", "%s", warning)
    add_job_fields()
    if options.log_level != "debug":
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)  # Flask-Offload's own lines say it
    processes = options.processes or host.config.worker_processes
    threads = options.threads or host.config.worker_threads
    offload_worker = OffloadWorker(connections, options, capacity=processes * threads)
    queues = _queues(connections, options)
    connections.close()  # no connection and no thread is open when the pool is forked
    worker = celery.Worker(
        hostname=f"{offload_worker.pool.identity.id}@{socket.gethostname()}",
        loglevel=options.log_level.upper(),
        concurrency=offload_worker.pool.identity.capacity,
        queues=queues,
        consumer_cls=OffloadConsumer,
        **QUIET,
    )
    worker.start()
    offload_worker.end()
    return int(worker.exitcode or 0)


def _queues(connections: Connections, options: WorkOptions) -> list[str]:
    """The queues to serve at the start; the worker adds new ones later."""
    celery, host = connections.celery, connections.host
    if options.queues is not None:
        names = set(options.queues)
    else:
        declared = {task.options.queue_name for task in host.registry.tasks.values()}
        conf = celery.conf
        names = {"default", conf.task_default_queue, *declared}
        names |= {queue.name for queue in conf.task_queues or ()}
        try:
            names |= {queue.name for queue in host.engine.queues()}
        except EngineUnavailable as error:
            log_event(logging.ERROR, "records_unavailable", "%s. The worker tries again", error)
    for name in names:
        celery.amqp.queues.add(connections.broker.queue(name))
    return sorted(names)


class OffloadWorker:
    """Connects Celery's worker with the pool and its maintenance. capacity: jobs at once."""

    def __init__(self, connections: Connections, options: WorkOptions, capacity: int) -> None:
        self.pool = CeleryPool(connections, WorkerIdentity(options.queues, capacity))
        self._connections = connections
        self._host = connections.host
        self._options = options
        self._worker: Any = None
        self._commands: deque[Callable[[], object]] = deque()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        os.set_blocking(self._wake_reader, False)
        self._stops_asked = 0
        self._drains_until: float | None = None
        self._idle_rounds = 0
        self._next_queues = 0.0
        self._has_ended = False
        self._prepare()

    def _prepare(self) -> None:
        """Before Celery creates its worker: register tasks, a step of its start, and signals."""
        celery, maintenance = self._connections.celery, self.pool.maintenance
        register_tasks(celery, self.pool)
        with self._host.app.app_context():
            maintenance.schedules = schedule_specs(self._host)
        maintenance.after_round = self._after_round
        if self._options.burst:
            maintenance.every = 0.1  # to see soon that nothing is left
        this = self

        class OffloadStep(bootsteps.StartStopStep):  # type: ignore[misc]
            """Starts the maintenance thread after the pool's processes have been forked."""

            requires = frozenset({"celery.worker.components:Pool"})

            def start(self, worker: Any) -> None:
                this.begin(worker)

            def register_with_event_loop(self, worker: Any, hub: Any) -> None:
                hub.add_reader(this._wake_reader, this._run_commands)

        celery.steps["worker"].add(OffloadStep)
        celery_signals.worker_shutting_down.connect(self._asked_to_stop)
        celery_signals.worker_process_init.connect(self._process_started)

    # --- called by Celery ---

    def _process_started(self, **_: Any) -> None:
        prepare_process(self._host.app)

    def begin(self, worker: Any) -> None:
        """The pool is up."""
        self._worker = worker
        self.pool.maintenance.start()
        signals.send(signals.worker_started, self._host.app, worker=self.pool.identity.id)

    def end(self) -> None:
        """All jobs have ended, or were put back."""
        if not self._has_ended:
            self._has_ended = True
            self.pool.maintenance.stop()
            signals.send(signals.worker_stopped, self._host.app, worker=self.pool.identity.id)

    def _asked_to_stop(self, **_: Any) -> None:
        """Called in a signal handler, so it only sets flags."""
        self._stops_asked += 1
        self.pool.identity.drain()

    # --- commands, run in the thread of Celery's loop ---

    def _post(self, work: Callable[[], object]) -> None:
        """Run this in Celery's loop, soon."""
        self._commands.append(work)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_writer, b"!")

    def _run_commands(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
        while self._commands:
            self._commands.popleft()()

    # --- in the maintenance thread, after each round ---

    def _after_round(self) -> None:
        if self.pool.identity.is_draining:
            self._check_drain()
            return
        outbox = self._connections.outbox
        if outbox is not None and outbox.has_jobs():
            outbox.relay()  # from a web process that has ended
        now = time.monotonic()
        if self._options.queues is None and now >= self._next_queues:
            self._next_queues = now + QUEUES_EVERY
            self._serve_new_queues()
        if self._options.burst and self._is_idle():
            self._idle_rounds += 1
            if self._idle_rounds > 1:
                os.kill(os.getpid(), signal.SIGTERM)
                self._post(lambda: None)  # wakes its loop, which then sees the signal
        else:
            self._idle_rounds = 0

    def _check_drain(self) -> None:
        """Wait for running jobs until the drain timeout; then put back the rest."""
        if self._drains_until is None:
            timeout = self._options.drain_timeout
            allowed = self._host.config.drain_timeout if timeout is None else timeout
            self._drains_until = time.monotonic() + allowed
            self._post(lambda: None)
        if self._stops_asked > 1 or time.monotonic() > self._drains_until:
            for request in list(celery_state.active_requests):
                self.pool.maintenance.recovery.kill(request.id)
            with contextlib.suppress(EngineUnavailable):  # otherwise another worker recovers them
                self.pool.maintenance.recovery.leave()
            os._exit(0)  # Celery would wait for its jobs without a limit

    def _serve_new_queues(self) -> None:
        served = self._connections.celery.amqp.queues.consume_from
        for queue in self._host.engine.queues():
            if queue.name not in served:
                self._post(lambda name=queue.name: self._serve(name))  # type: ignore[misc]

    def _serve(self, name: str) -> None:
        self._connections.celery.amqp.queues.add(self._connections.broker.queue(name))
        if self._worker.consumer.task_consumer is not None:
            self._worker.consumer.add_task_queue(name)

    def _is_idle(self) -> bool:
        """Whether nothing runs here and no job waits that this worker could start."""
        if celery_state.active_requests or celery_state.reserved_requests:
            return False
        store, served = self._connections.store, self._options.queues
        lanes = [
            lane
            for lane in store.ask("SMEMBERS", "lanes")
            if served is None or lane.rpartition("|")[0] in served
        ]
        waiting = store.ask_all([("ZCARD", f"sent:{lane}") for lane in lanes]) if lanes else []
        if any(waiting):
            return False
        names = self._connections.celery.amqp.queues.consume_from
        return not any(self._connections.broker.depth(name) for name in list(names))


def register_tasks(celery: Celery, pool: CeleryPool) -> None:
    """Register the app's tasks with Celery, each under its own name, for this pool to run."""
    host = pool.connections.host
    celery.finalize(auto=True)
    for task in host.registry.tasks.values():
        if not isinstance(celery.tasks.get(task.name), OffloadTask):
            celery.register_task(OffloadTask(task, pool, host.config.timeout_grace))
    celery.register_task(AnonymousTask(pool))
