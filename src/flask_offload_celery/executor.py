"""Runs jobs inside a process of a Celery worker's pool."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import time
from collections.abc import Callable
from contextvars import Context
from threading import current_thread, main_thread
from typing import Any, Final

from flask_offload.engine_api import (
    Claim,
    Host,
    JobStatus,
    Outcome,
    Report,
    latest,
    log_event,
    run,
    run_async,
)
from flask_offload.errors import EngineUnavailable

from .connections import Connections
from .isolation import run_isolated
from .progress_monitor import ProgressMonitor, RunningAttempt
from .records import decode_job
from .redis_store import Draft
from .transition import transition_of
from .worker_identity import WorkerIdentity

RETRY_AFTER: Final = (0.1, 0.3, 1.0, 2.0)
"""Seconds to wait after the first, second, … failure of Redis; then always the last."""


class Stopping(Exception):
    """The worker is stopping, and the job could not be claimed before."""


class JobExecutor:
    """Claims a job, runs it and records its outcome. Each process creates its own."""

    def __init__(self, connections: Connections, identity: WorkerIdentity) -> None:
        self._connections = connections
        self._host = connections.host
        self._identity = identity
        self._numbers = itertools.count(1)
        self._monitor = self._new_monitor()
        if current_thread() is main_thread():
            # only the worker's main process decides when to stop, but a service manager may signal
            # all. Celery's own handler would raise SystemExit in the middle of the job
            signal.signal(signal.SIGTERM, lambda *_: None)

    def execute(self, job_id: str, plain: Draft | None) -> tuple[Outcome, str] | str:
        """Claim the job, run it once, record its outcome.

        plain: the job, if a message of plain Celery code makes it. Returns the outcome and the
        status that followed, or the reason why there was nothing to run. Raises Stopping.
        """
        answer = self._until_done(
            lambda: self._connections.store.claim(
                job_id, self._identity.id, self._host.clock(), plain
            ),
            may_give_up=True,
        )
        if answer[0] != "run":
            return str(answer[0])
        claim = self._claimed(answer)
        host = self._host
        if host.task(claim.task).options.isolate:
            # threads are not copied by a fork, so that process needs a monitor of its own
            outcome = run_isolated(
                lambda: self._run(host, claim, self._new_monitor()),
                claim,
                self._host.clock,
                host.app,
            )
        else:
            outcome = self._run(host, claim, self._monitor)
        return outcome, self._record(claim, outcome)

    # --- steps ---

    def _new_monitor(self) -> ProgressMonitor:
        return ProgressMonitor(lambda: self._connections.store, self._identity)

    def _claimed(self, answer: list[Any]) -> Claim:
        _, body, enqueued_at, attempt, failures, crashes, cursor = answer
        job = decode_job(body)
        job.enqueued_at = float(enqueued_at)
        return job.claim(
            seq=next(self._numbers),
            attempt=int(attempt),
            failures=int(failures),
            crashes=int(crashes),
            claimed_at=self._host.clock(),
            cursor=cursor,
        )

    def _run(self, host: Host, claim: Claim, monitor: ProgressMonitor) -> Outcome:
        def emit(report: Report) -> None:
            before = attempt.report
            attempt.report = report if before is None else latest([before, report])[0]

        attempt = RunningAttempt(claim, host.context(claim, emit))
        with monitor.watching(attempt):
            if host.task(claim.task).is_async:
                outcome = asyncio.run(self._run_coroutine(host, attempt))
            else:
                # a context of its own, so that variables set by a task end with it
                outcome = Context().run(run, host, attempt.context)
        attempt.context.finish()
        last = attempt.report
        if last is not None:
            store, worker = self._connections.store, self._identity.id
            self._until_done(lambda: store.report(claim.id, claim.attempt, worker, last))
        return outcome

    async def _run_coroutine(self, host: Host, attempt: RunningAttempt) -> Outcome:
        loop = asyncio.get_running_loop()
        task = loop.create_task(run_async(host, attempt.context), context=Context())
        attempt.wake = lambda: loop.call_soon_threadsafe(task.cancel)
        return await task

    def _record(self, claim: Claim, outcome: Outcome) -> str:
        store, worker = self._connections.store, self._identity.id
        now = self._host.clock()
        transition = transition_of(outcome, claim, self._host, worker, now)
        status: str = self._until_done(
            lambda: store.finish(claim.id, claim.attempt, worker, transition, now=now, patience=1.0)
        )
        if status == JobStatus.READY and not transition.run_after:
            self._connections.send_again([claim.id])
        elif status == "late":
            message = "an outcome came too late and was not recorded: job %s, attempt %d, %s"
            values = (claim.id, claim.attempt, outcome.ending)
            log_event(logging.WARNING, "outcome_refused", message, *values)
        return status

    def _until_done(self, work: Callable[[], Any], *, may_give_up: bool = False) -> Any:
        """Repeat the call until Redis answers: the result of a finished job must not be lost."""
        failures = 0
        while True:
            try:
                return work()
            except EngineUnavailable as error:
                if may_give_up and self._identity.is_draining:
                    raise Stopping from error
                if not failures:
                    message = "%s. The worker tries again"
                    log_event(logging.ERROR, "records_unavailable", message, error)
                time.sleep(RETRY_AFTER[min(failures, len(RETRY_AFTER) - 1)])
                failures += 1
