"""A worker inside the web process, for OFFLOAD_WORKER = "thread" and apps no child can import.

Threads share the interpreter with the requests, and nothing can stop a task that does not listen:
prefer the worker process. Jobs are just as durable, and are put back when this process dies.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from .. import signals
from ..engines.host import Host
from ..engines.sqlite.engine import SqliteEngine
from ..engines.sqlite.notifier import Bell
from ..engines.sqlite.recovery import register, set_stopping, unregister
from ..engines.sqlite.worker_locks import Registration, run_folder
from ..engines.sqlite.worker_store import Ledger
from ..errors import EngineUnavailable
from ..jobs import log
from ..jobs.attempt import Claim, Outcome
from ..jobs.new_job import ALONE, ASYNC, THREADS
from .dispatcher import Dispatcher, News
from .executor import Runner
from .settings import retention, worker_settings

FLUSH_EVERY = 0.25
RESTART_PAUSE = 1.0


class Threads:
    """A crew of threads of this process."""

    def __init__(self, runner: Runner, slots_of: Registration, threads: int, coroutines: int):
        self._runner = runner
        self._slots = slots_of.slots
        self._threads, self._coroutines = threads, coroutines
        self._held: dict[int, Claim] = {}
        self._unsettled: dict[int, int] = {}  # seq -> ticket

    def room(self) -> Mapping[str, int]:
        """How many more jobs each lane takes."""
        held = Counter(claim.lane for claim in self._held.values())
        free = max(0, self._threads - held.total() + held[ASYNC])
        # what should run alone has no process to itself here: one at a time, by the common threads
        alone = {lane: int(free > 0 and not held[lane]) for lane in ALONE}
        return {**alone, THREADS: free, ASYNC: self._coroutines - held[ASYNC]}

    def hand_out(self, claims: Sequence[Claim]) -> None:
        """Run these."""
        for claim in claims:
            claim.ticket = self._slots.take(claim.seq)
            self._held[claim.seq] = claim
        self._runner.submit(list(claims))

    def news(self) -> News:
        """What happened since the last call."""
        runner, news = self._runner, News()
        while runner.outcomes:
            news.outcomes.append(runner.outcomes.popleft())
        while runner.reports:
            news.reports.append(runner.reports.popleft())
        while runner.unknown:
            news.unknown += self._let_go([runner.unknown.popleft()])
        for outcome in news.outcomes:  # the slot is kept until the outcome is written down
            self._unsettled[outcome.seq] = self._held.pop(outcome.seq).ticket
        return news

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """These are written down."""
        for outcome in outcomes:
            ticket = self._unsettled.pop(outcome.seq, None)
            if ticket is not None:
                self._slots.give_back(ticket)

    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        """Tell it to stop; threads can't be stopped by force."""
        self._runner.cancel(seq, attempt)

    def take_back(self) -> list[Claim]:
        """The jobs that have not started, which then never will."""
        return self._let_go(self._runner.recall())

    @property
    def holds(self) -> int:
        """How many jobs it has that are not finished."""
        return len(self._held)

    def _let_go(self, seqs: Sequence[int]) -> list[Claim]:
        claims = [self._held.pop(seq) for seq in seqs if seq in self._held]
        for claim in claims:
            self._slots.give_back(claim.ticket)
        return claims


class ThreadWorker:
    """Runs the app's jobs in threads of this process, from `start` until `stop`."""

    def __init__(self, state: Host) -> None:
        self._state = state
        self._waker, self._wake_end = socket.socketpair()
        for end in (self._waker, self._wake_end):
            end.setblocking(False)
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="offload-worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, drain_timeout: float) -> None:
        """Finish what runs, within so many seconds, and put the rest back."""
        self._stop_at = time.monotonic() + drain_timeout
        self._wake()
        self._thread.join(drain_timeout + 5)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_end.send(b"!")

    def _run(self) -> None:
        while self._stop_at is None:
            try:
                self._serve()
            except EngineUnavailable as error:
                log.write(logging.ERROR, "database_unavailable", "%s", error)
                time.sleep(RESTART_PAUSE)
        self._waker.close()
        self._wake_end.close()

    def _serve(self) -> None:
        state, config = self._state, self._state.config
        with state.app.app_context():
            settings = worker_settings(state)
        engine = state.engine
        assert isinstance(engine, SqliteEngine)
        threads, coroutines = config.worker_threads, config.async_concurrency
        places = threads + coroutines + len(ALONE)
        registration = Registration(run_folder(state.database), places)
        bell = Bell(registration.bell_path)
        kept_for = retention(settings)
        ledger = Ledger(engine, registration.id, kept_for)
        runner = Runner(
            state,
            threads=threads,
            note_start=registration.slots.start,
            wake=self._wake,
            give_up=lambda: None,  # the web process must live; the log tells of it
        )
        crew = Threads(runner, registration, threads, coroutines)
        dispatcher = Dispatcher(
            ledger, crew, retention=kept_for, schedules=settings.schedules, spool=state.spool
        )
        signals.send(signals.worker_started, state.app, worker=registration.id)
        try:
            register(engine, registration.id, kind="thread", queues=None, capacity=threads)
            self._loop(dispatcher, crew, runner, bell, registration.id, engine)
        finally:
            with contextlib.suppress(EngineUnavailable):
                unregister(engine, registration.id)
            bell.close()
            runner.stop(timeout=0.5)
            registration.close()
            signals.send(signals.worker_stopped, state.app, worker=registration.id)

    def _loop(
        self,
        dispatcher: Dispatcher,
        crew: Threads,
        runner: Runner,
        bell: Bell,
        worker_id: str,
        engine: SqliteEngine,
    ) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(bell, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            wait = 0.0
            while True:
                for key, _ in selector.select(wait):
                    if key.fileobj is bell:
                        bell.clear()
                        dispatcher.ring()
                    else:
                        with contextlib.suppress(BlockingIOError):
                            self._waker.recv(4096)
                if self._stop_at is not None and not dispatcher.is_closing:
                    dispatcher.is_closing = True
                    set_stopping(engine, worker_id)
                    runner.drain()
                    dispatcher.put_back(crew.take_back())
                running = runner.flush()
                wait = dispatcher.step()
                if running:
                    wait = min(wait, FLUSH_EVERY)
                if self._stop_at is not None:
                    left = self._stop_at - time.monotonic()
                    if left <= 0 or not (crew.holds or dispatcher.has_unwritten):
                        return
                    wait = min(wait, left)
