"""Runs jobs inside one process: threads for plain tasks, one event loop for async ones."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ..engines.host import Host
from ..engines.run import run, run_async
from ..errors import UnknownTask
from ..jobs import log
from ..jobs.attempt import Claim, Outcome, Report
from ..jobs.context import JobContext
from ..jobs.new_job import ASYNC

if TYPE_CHECKING:
    import asyncio


class Executor:
    """Takes claims and gives back reports and outcomes through its three outboxes.

    note_start: called with (ticket, seq) just before a job's first line.
    wake: called, from any thread, when there is something in an outbox.
    give_up: called when one of its threads has failed or a task has stopped the event loop, so that
    some jobs would never end.
    """

    def __init__(
        self,
        host: Host,
        *,
        threads: int,
        note_start: Callable[[int, int], None],
        wake: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        self.reports: deque[Report] = deque()
        self.outcomes: deque[Outcome] = deque()
        self.unknown: deque[int] = deque()
        self._host = host
        self._process = os.getpid()
        self._note_start = note_start
        self._wake = wake
        self._give_up = give_up
        self._inbox: SimpleQueue[Claim | None] = SimpleQueue()
        self._active: dict[int, JobContext] = {}
        self._stopped_early: dict[int, int] = {}  # seq -> attempt, cancelled before it started
        self._is_draining = self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coroutines: dict[int, asyncio.Task[None]] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"offload-{number}", daemon=True)
            for number in range(1, threads + 1)
        ]
        for thread in self._threads:
            thread.start()

    # --- called by the owner's thread ---

    def submit(self, claims: list[Claim]) -> None:
        """Run these jobs as soon as a thread is free, in this order."""
        for claim in claims:
            if claim.lane == ASYNC:
                loop = self._event_loop()
                loop.call_soon_threadsafe(self._begin_coroutine, claim)
            else:
                self._inbox.put(claim)

    def recall(self) -> list[int]:
        """Take back what no thread has begun yet; the seq of each."""
        seqs: list[int] = []
        while True:
            try:
                claim = self._inbox.get_nowait()
            except Empty:
                return seqs
            if claim is None:
                self._inbox.put(None)  # a thread's sign to leave
                return seqs
            seqs.append(claim.seq)

    def cancel(self, seq: int, attempt: int) -> None:
        """Let a job learn at its next checkpoint that it is to stop."""
        context = self._active.get(seq)
        if context is None:
            self._stopped_early[seq] = attempt
            context = self._active.get(seq)  # it may have begun just now
        if context is not None and context.attempt == attempt:
            context.stop = "cancel"
            self._cancel_coroutine(seq)

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return bool(self._active)

    def work_here(self) -> None:
        """Run jobs in this thread, until `end`."""
        self._work()

    def end(self) -> None:
        """Let `work_here` return."""
        self._inbox.put(None)

    def drain(self) -> None:
        """Let resumable jobs end at their next checkpoint."""
        self._is_draining = True
        for context in list(self._active.values()):
            context.stop = context.stop or "drain"

    def flush(self) -> bool:
        """Put progress not reported yet into the outbox; whether any job is running."""
        for context in list(self._active.values()):
            if context.is_dirty:
                context.flush()
        return bool(self._active)

    def stop(self, timeout: float) -> None:
        """End the threads, once they are idle."""
        self._is_stopping = True
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join(timeout)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    # --- threads ---

    def _work(self) -> None:
        try:
            while (claim := self._inbox.get()) is not None:
                context = self._begin(claim)
                if context is not None:
                    # a context of its own, so that nothing a task sets outlives it
                    self._end(context, Context().run(run, self._host, context))
        except BaseException:
            self._fail("a thread that runs jobs has failed")
            raise

    def _begin(self, claim: Claim) -> JobContext | None:
        try:
            context = self._host.context(claim, self._report)
        except UnknownTask:
            self.unknown.append(claim.seq)
            self._wake()
            return None
        self._note_start(claim.ticket, claim.seq)
        self._active[claim.seq] = context
        if self._is_draining:
            context.stop = "drain"
        if self._stopped_early and self._stopped_early.pop(claim.seq, None) == claim.attempt:
            context.stop = "cancel"
        return context

    def _end(self, context: JobContext, outcome: Outcome) -> None:
        if os.getpid() != self._process:
            os._exit(0)  # a copy that the task forked, and that would take more jobs
        del self._active[context.claim.seq]
        context.finish()
        self.outcomes.append(outcome)
        self._wake()

    def _fail(self, message: str) -> None:
        with contextlib.suppress(Exception):
            log.write(logging.CRITICAL, "runner_failed", message)
        self._give_up()

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self._wake()

    # --- the event loop ---

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            import asyncio  # only here, as in run.py

            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._run_loop, name="offload-async", daemon=True).start()
        return self._loop

    def _run_loop(self) -> None:
        import asyncio

        loop = self._event_loop()
        asyncio.set_event_loop(loop)
        loop.run_forever()
        if not self._is_stopping:
            self._fail("a task has stopped the event loop in which all async jobs run")
        loop.close()

    def _begin_coroutine(self, claim: Claim) -> None:
        loop = self._event_loop()
        task = loop.create_task(self._run_coroutine(claim), context=Context())
        self._coroutines[claim.seq] = task
        task.add_done_callback(lambda _: self._coroutines.pop(claim.seq, None))

    async def _run_coroutine(self, claim: Claim) -> None:
        context = self._begin(claim)
        if context is not None:
            self._end(context, await run_async(self._host, context))

    def _cancel_coroutine(self, seq: int) -> None:
        if self._loop is not None:

            def cancel() -> None:
                task = self._coroutines.get(seq)
                if task is not None:
                    task.cancel()

            self._loop.call_soon_threadsafe(cancel)
