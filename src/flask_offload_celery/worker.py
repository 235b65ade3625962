"""One worker's time at work: Celery's worker on one side, our crew on the other."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery import Celery, bootsteps
from celery import signals as celery_signals
from celery.worker import state as celery_state

from flask_offload import signals
from flask_offload.engines.base import WorkOptions
from flask_offload.errors import EngineUnavailable
from flask_offload.worker.settings import schedule_specs

from .celery_task import AnonymousTask, OffloadTask
from .connections import Office
from .pool import Crew
from .worker_identity import Seat

QUIET: Final[dict[str, Any]] = {
    "quiet": True,
    # workers need not know each other through the broker; the ledger tells who lives
    "without_mingle": True,
    "without_gossip": True,
    "without_heartbeat": True,
}
QUEUES_EVERY: Final = 2.0
"""Seconds between two looks for queues that are new."""


class Shift:
    """See the module. capacity: jobs at once."""

    def __init__(self, office: Office, options: WorkOptions, capacity: int) -> None:
        self.crew = Crew(office, Seat(options.queues, capacity))
        self._office = office
        self._host = office.host
        self._options = options
        self._worker: Any = None
        self._wishes: deque[Callable[[], object]] = deque()
        self._woken_end, self._wake_end = os.pipe()
        os.set_blocking(self._wake_end, False)
        os.set_blocking(self._woken_end, False)
        self._stops_asked = 0
        self._drains_until: float | None = None
        self._idle_rounds = 0
        self._next_queues = 0.0
        self._has_ended = False
        self._prepare()

    def _prepare(self) -> None:
        """Before Celery makes its worker: our tasks, our step in its start, its signals."""
        celery, clerk = self._office.celery, self.crew.clerk
        register_tasks(celery, self.crew)
        with self._host.app.app_context():
            clerk.schedules = schedule_specs(self._host)
        clerk.after_round = self._after_round
        if self._options.burst:
            clerk.every = 0.1  # to see soon that nothing is left
        shift = self

        class OffloadStep(bootsteps.StartStopStep):  # type: ignore[misc]
            """Starts the clerk once the pool's processes are forked, as threads don't fork."""

            requires = frozenset({"celery.worker.components:Pool"})

            def start(self, worker: Any) -> None:
                shift.begin(worker)

            def register_with_event_loop(self, worker: Any, hub: Any) -> None:
                hub.add_reader(shift._woken_end, shift._grant_wishes)

        celery.steps["worker"].add(OffloadStep)
        celery_signals.worker_shutting_down.connect(self._asked_to_stop)
        celery_signals.task_unknown.connect(self._task_unknown)

    # --- from Celery ---

    def begin(self, worker: Any) -> None:
        """The pool is up."""
        self._worker = worker
        self.crew.clerk.start()
        signals.send(signals.worker_started, self._host.app, worker=self.crew.seat.id)

    def end(self) -> None:
        """All jobs have ended, or were put back."""
        if not self._has_ended:
            self._has_ended = True
            self.crew.clerk.stop()
            signals.send(signals.worker_stopped, self._host.app, worker=self.crew.seat.id)

    def _asked_to_stop(self, **_: Any) -> None:
        """In a signal handler: do no more than note it."""
        self._stops_asked += 1
        self.crew.seat.drain()

    def _task_unknown(self, *, name: str, id: str, **_: Any) -> None:
        self.crew.clerk.losses.note_unknown(id, name)

    # --- to Celery, in its own thread ---

    def _wish(self, work: Callable[[], object]) -> None:
        """Have this done in Celery's loop, and soon."""
        self._wishes.append(work)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_end, b"!")

    def _grant_wishes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken_end, 4096)
        while self._wishes:
            self._wishes.popleft()()

    # --- in the clerk's thread, after each of its rounds ---

    def _after_round(self) -> None:
        if self.crew.seat.is_draining:
            self._watch_the_drain()
            return
        outbox = self._office.outbox
        if outbox is not None and outbox.has_jobs():
            outbox.relay()  # left behind by a web process that is gone
        now = time.monotonic()
        if self._options.queues is None and now >= self._next_queues:
            self._next_queues = now + QUEUES_EVERY
            self._serve_new_queues()
        if self._options.burst and self._is_idle():
            self._idle_rounds += 1
            if self._idle_rounds > 1:
                os.kill(os.getpid(), signal.SIGTERM)
                self._wish(lambda: None)  # so that its loop looks at once
        else:
            self._idle_rounds = 0

    def _watch_the_drain(self) -> None:
        """Give running jobs their time; what is left then is put back."""
        if self._drains_until is None:
            timeout = self._options.drain_timeout
            allowed = self._host.config.drain_timeout if timeout is None else timeout
            self._drains_until = time.monotonic() + allowed
            self._wish(lambda: None)
        if self._stops_asked > 1 or time.monotonic() > self._drains_until:
            for request in list(celery_state.active_requests):
                self.crew.clerk.losses.kill(request.id)
            with contextlib.suppress(EngineUnavailable):  # else others find us gone
                self.crew.clerk.losses.leave()
            os._exit(0)  # Celery would wait for its jobs for ever

    def _serve_new_queues(self) -> None:
        served = self._office.celery.amqp.queues.consume_from
        for queue in self._host.engine.queues():
            if queue.name not in served:
                self._wish(lambda name=queue.name: self._serve(name))  # type: ignore[misc]

    def _serve(self, name: str) -> None:
        self._office.celery.amqp.queues.add(self._office.broker.queue(name))
        if self._worker.consumer.task_consumer is not None:
            self._worker.consumer.add_task_queue(name)

    def _is_idle(self) -> bool:
        """Whether nothing runs here and nothing waits that could."""
        if celery_state.active_requests or celery_state.reserved_requests:
            return False
        ledger, served = self._office.ledger, self._options.queues
        lanes = [
            lane
            for lane in ledger.ask("SMEMBERS", "lanes")
            if served is None or lane.rpartition("|")[0] in served
        ]
        waiting = ledger.ask_all([("ZCARD", f"sent:{lane}") for lane in lanes]) if lanes else []
        if any(waiting):
            return False
        names = self._office.celery.amqp.queues.consume_from
        return not any(self._office.broker.depth(name) for name in list(names))


def register_tasks(celery: Celery, crew: Crew) -> None:
    """Make Celery know the app's tasks, each under its own name, for this crew to run."""
    host = crew.office.host
    celery.finalize(auto=True)
    for task in host.registry.tasks.values():
        if not isinstance(celery.tasks.get(task.name), OffloadTask):
            celery.register_task(OffloadTask(task, crew, host.config.timeout_grace))
    celery.register_task(AnonymousTask(crew))
