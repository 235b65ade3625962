"""Run jobs in a test, now and at other times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Flask

from ..jobs.job import Job
from ..state import state_of
from .clock import Clock
from .manual_worker import ManualWorker, manual_worker

if TYPE_CHECKING:
    from datetime import datetime

LIMIT = 1000
"""Attempts in one drain(); more are taken for a task that enqueues itself forever."""


@contextmanager
def travel(app: Flask, to: timedelta | datetime = timedelta(0)) -> Iterator[Clock]:
    """In the block the app's jobs use another time, which changes only when it is moved::

        with travel(app, timedelta(hours=1)) as clock:
            drain(app)
            clock.move(timedelta(days=1))

    Enqueueing, delays, schedules and ends of jobs use that time; `time.time()` itself does not
    change. Schedules count from the time before the block, as if a worker had run until then.
    Raises OptionError for a naive datetime.
    """
    state = state_of(app)
    before = state.clock
    clock = Clock(before())
    clock.move(to)
    worker = manual_worker(state)
    with worker.opened():
        worker.tick()
    state.clock = clock
    try:
        yield clock
    finally:
        state.clock = before


def drain(
    app: Flask,
    *,
    queue: str | None = None,
    until: timedelta | datetime | None = None,
    limit: int = LIMIT,
) -> list[Job]:
    """Run jobs that are ready in this thread until none is left; returns the jobs that ran.

    They run in the order in which a worker would start them, with the jobs that they enqueue.
    A retry follows at once, whatever its wait. Jobs with a future `run_after` are left; schedules
    fire only inside `travel`.

    queue: only jobs of this queue.
    until: move the time to this one, a timedelta from now or an aware datetime, with a stop
    whenever a job, a retry or a schedule is due. Retries keep their waits then. Inside `travel`,
    its clock is moved and stays there.
    limit: attempts, after which a RuntimeError is raised.

    Raises UnknownTask for a job whose task is not declared, and UnsupportedByEngine for engines
    whose jobs can't be run here.
    """
    state = state_of(app)
    ran = _Ran(manual_worker(state, queue), limit)
    with ran.worker.opened():
        if until is not None and isinstance(state.clock, Clock):
            ran.run_until(until, state.clock)
        elif until is not None:
            with travel(app) as clock:
                ran.run_until(until, clock)
        else:
            ran.run_ready(ticks=isinstance(state.clock, Clock), keeps_waits=False)
    return [state.job(state.engine.get(id)) for id in ran.ids]


class _Ran:
    """The ids of the jobs that a manual worker has run, each once, by their first attempts."""

    def __init__(self, worker: ManualWorker, limit: int) -> None:
        self.worker = worker
        self.ids: dict[str, None] = {}
        self._limit = limit
        self._left = limit

    def run_ready(self, *, ticks: bool, keeps_waits: bool) -> None:
        if ticks:
            self.worker.tick()
        while (job_id := self.worker.run_one(keeps_waits=keeps_waits)) is not None:
            self.ids[job_id] = None
            self._left -= 1
            if self._left < 0:
                raise RuntimeError(
                    f"drain() has run more than {self._limit} attempts, and there is no end to it:"
                    " does a task enqueue itself? Else give a higher limit=…"
                )

    def run_until(self, until: timedelta | datetime, clock: Clock) -> None:
        end = clock.moment(until)
        self.run_ready(ticks=True, keeps_waits=True)
        while (due := self.worker.next_due()) is not None and clock.seconds < due <= end:
            clock.seconds = due
            self.run_ready(ticks=True, keeps_waits=True)
        clock.seconds = max(clock.seconds, end)
