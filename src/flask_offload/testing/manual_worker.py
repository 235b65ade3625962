"""Those who run an engine's jobs in the thread of a test, one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import cached_property
from typing import TYPE_CHECKING

from flask import Flask

from ..engines.base import ScheduleSpec
from ..engines.inline import InlineEngine
from ..engines.run import run
from ..engines.sqlite import SqliteEngine
from ..engines.sqlite.schedules import next_tick, tick
from ..engines.sqlite.worker_locks import Registration, run_folder
from ..engines.sqlite.worker_store import Ledger, Retention
from ..errors import NotInitialized, UnsupportedByEngine
from ..jobs.attempt import Claim, Ending, Outcome
from ..jobs.new_job import ALONE, ASYNC, THREADS
from ..worker.settings import own_keeps, worker_settings

if TYPE_CHECKING:
    from ..extension import Offload
    from ..state import AppState

ONE_OF_EACH = dict.fromkeys((*ALONE, THREADS, ASYNC), 1)


def state_of(app: Flask) -> AppState:
    """What belongs to the app. Raises NotInitialized."""
    offload: Offload | None = app.extensions.get("offload")
    if offload is None:
        raise NotInitialized
    return offload.state_of(app)


class Hand(ABC):
    """Runs jobs while it is `at_work`."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
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


def hand_of(state: AppState, queue_name: str | None = None) -> Hand:
    """A hand for the app's engine. Raises UnsupportedByEngine if its jobs can't be run here."""
    engine = state.engine
    if isinstance(engine, SqliteEngine):
        return _SqliteHand(state, engine, queue_name)
    if isinstance(engine, InlineEngine):
        return _InlineHand(engine, queue_name)
    raise UnsupportedByEngine(
        f"jobs of the {engine.name} engine can't be run in a test's own thread: set OFFLOAD_ENGINE"
        " to 'sqlite' or 'inline' for tests"
    )


class _InlineHand(Hand):
    def __init__(self, engine: InlineEngine, queue_name: str | None) -> None:
        self._engine = engine
        self._queue_name = queue_name

    def run_one(self, *, keeps_waits: bool) -> str | None:
        record = self._engine.run_next(self._queue_name)
        return None if record is None else record.id

    def next_due(self) -> float | None:
        return self._engine.next_due()

    def tick(self) -> None:
        """The inline engine keeps no schedules (see its flags)."""


class _SqliteHand(Hand):
    """A worker like any other to the database, with a lock of its own."""

    def __init__(self, state: AppState, engine: SqliteEngine, queue_name: str | None) -> None:
        self._state = state
        self._engine = engine
        self._queues = None if queue_name is None else {queue_name}
        config = state.config
        self._retention = Retention(
            config.keep_successful,
            config.keep_failed,
            config.keep_count,
            own_keeps(state.registry),
        )
        self._ledger = self._ledger_of("")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        registration = Registration(run_folder(self._state.database), 1)
        self._ledger = self._ledger_of(registration.id)
        try:
            yield
        finally:
            registration.close()

    def run_one(self, *, keeps_waits: bool) -> str | None:
        due = self._ledger.next_due()
        if due is not None and due <= self._engine.clock():
            self._ledger.promote()
        claims = self._ledger.exchange([], ONE_OF_EACH).claims
        if not claims:
            return None
        claim, *others = claims
        if others:  # one of each lane was claimed, to see which is first
            self._ledger.give_back(others)
        outcome = self._run(claim)
        if outcome.ending is Ending.RETRY and not keeps_waits:
            outcome.after = 0.0
        visit = self._ledger.exchange([outcome], {})
        if self._state.spool is not None:
            self._state.spool.remove(visit.stray_files)
        return claim.id

    def next_due(self) -> float | None:
        now = self._engine.clock()
        times = [next_tick(self._engine, spec, now) for spec in self._schedules]
        times.append(self._ledger.next_due())
        return min((at for at in times if at is not None), default=None)

    def tick(self) -> None:
        for spec in self._schedules:
            tick(self._engine, spec, self._engine.clock())

    def _run(self, claim: Claim) -> Outcome:
        try:
            environment = self._state
            context = environment.context(claim, lambda report: self._ledger.report([report]))
            # a context of its own: the job sees nothing of the test's request, nor leaves traces
            outcome = Context().run(run, environment, context)
        except BaseException:
            self._ledger.give_back([claim])
            raise
        if context.is_dirty:
            context.flush()
        return outcome

    def _ledger_of(self, worker_id: str) -> Ledger:
        return Ledger(self._engine, worker_id, self._retention, self._queues)

    @cached_property
    def _schedules(self) -> list[ScheduleSpec]:
        with self._state.app.app_context():
            return worker_settings(self._state).schedules
