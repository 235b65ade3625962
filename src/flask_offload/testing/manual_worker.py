"""Run an engine's jobs in the thread of a test, one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import cached_property
from typing import TYPE_CHECKING

from ..engines.run import run
from ..engines.schedules import ScheduleSpec
from ..engines.store import Store, StoreOptions
from ..jobs.attempt import Claim, Ending, Outcome
from ..jobs.new_job import ALONE, ASYNC, THREADS
from ..worker.settings import retention_of, schedule_specs

if TYPE_CHECKING:
    from ..state import AppState

ONE_OF_EACH = dict.fromkeys((*ALONE, THREADS, ASYNC), 1)


class ManualWorker(ABC):
    """Runs jobs one by one, inside of `opened()`."""

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside of the block jobs can be run."""
        yield

    @abstractmethod
    def run_one(self, *, keeps_waits: bool) -> str | None:
        """Run the job that is next; its id, None if none is ready.

        keeps_waits: whether a retry waits as its task says, or is ready at once.
        """

    @abstractmethod
    def next_due(self) -> float | None:
        """When something comes due that is not yet (unix seconds)."""

    @abstractmethod
    def tick(self) -> None:
        """Let schedules fire whose time has come."""


def manual_worker(state: AppState, queue_name: str | None = None) -> ManualWorker:
    """A worker for the app's engine. Raises UnsupportedByEngine if its jobs can't be run here."""
    state.check_test_database()
    if state.engine.flags.own_worker:
        return _StoreWorker(state, queue_name)
    return _InlineWorker(state, queue_name)


class _InlineWorker(ManualWorker):
    """For an engine that runs its jobs where they are enqueued, and keeps no schedules."""

    def __init__(self, state: AppState, queue_name: str | None) -> None:
        self._engine = state.engine
        self._queue_name = queue_name

    def run_one(self, *, keeps_waits: bool) -> str | None:
        return self._engine.run_next(self._queue_name)

    def next_due(self) -> float | None:
        return self._engine.next_due()

    def tick(self) -> None: ...


class _StoreWorker(ManualWorker):
    """A worker like any other to its store, with a registration of its own."""

    def __init__(self, state: AppState, queue_name: str | None) -> None:
        self._state = state
        self._options = StoreOptions(
            kind="test",
            retention=retention_of(state),
            places=1,
            capacity=1,
            queues=None if queue_name is None else frozenset({queue_name}),
        )
        self._store: Store | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        self._store = store = self._state.engine.open_store(self._options)
        try:
            yield
        finally:
            self._store = None
            store.close()

    def run_one(self, *, keeps_waits: bool) -> str | None:
        store = self._opened
        due = store.next_due()
        if due is not None and due <= store.clock():
            store.promote()
        claims = store.exchange([], ONE_OF_EACH).claims
        if not claims:
            return None
        claim, *others = claims
        if others:  # one of each lane was claimed, to see which is first
            store.give_back(others)
        outcome = self._run(claim)
        if outcome.ending is Ending.RETRY and not keeps_waits:
            outcome.after = 0.0
        exchange = store.exchange([outcome], {})
        if self._state.spool is not None:
            self._state.spool.remove(exchange.stray_files)
        return claim.id

    def next_due(self) -> float | None:
        store = self._opened
        times = [store.next_tick(spec) for spec in self._schedules]
        times.append(store.next_due())
        return min((at for at in times if at is not None), default=None)

    def tick(self) -> None:
        for spec in self._schedules:
            self._opened.tick(spec)

    @property
    def _opened(self) -> Store:
        assert self._store is not None, "call it inside of opened()"
        return self._store

    def _run(self, claim: Claim) -> Outcome:
        store = self._opened
        try:
            context = self._state.context(claim, lambda report: store.report([report]))
            # a context of its own: the job sees nothing of the test's request, nor leaves traces
            outcome = Context().run(run, self._state, context)
        except BaseException:
            store.give_back([claim])
            raise
        context.finish()
        return outcome

    @cached_property
    def _schedules(self) -> list[ScheduleSpec]:
        with self._state.app.app_context():
            return schedule_specs(self._state)
