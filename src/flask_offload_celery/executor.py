"""Runs claimed jobs inside a process of a Celery worker's pool."""

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

from flask_offload.engines.host import Host
from flask_offload.engines.run import run, run_async
from flask_offload.errors import EngineUnavailable
from flask_offload.jobs import log
from flask_offload.jobs.attempt import Claim, Outcome, Report
from flask_offload.jobs.job import JobStatus

from .connections import Office
from .isolation import run_alone
from .progress_monitor import Attempt, Companion
from .records import decode_job
from .redis_store import Draft
from .transition import settled
from .worker_identity import Seat

RETRY_LEDGER: Final = (0.1, 0.3, 1.0, 2.0)
"""Seconds to wait after the first, second, … failure of Redis; the last is then kept."""


class Stopping(Exception):
    """The worker is stopping, and the job could not be claimed before."""


class Performer:
    """See the module. One for each process, made in it."""

    def __init__(self, office: Office, seat: Seat) -> None:
        self._office = office
        self._host = office.host
        self._seat = seat
        self._numbers = itertools.count(1)
        self._companion = self._new_companion()
        if current_thread() is main_thread():
            # only the worker's main process decides when to stop: a service manager may signal all.
            # Celery's own handler would raise SystemExit in the middle of the job
            signal.signal(signal.SIGTERM, lambda *_: None)

    def perform(self, job_id: str, plain: Draft | None) -> tuple[Outcome, str] | str:
        """Claim the job, run it once, write down what came of it.

        plain: the job, if a message of plain Celery code makes it. Returns the outcome and the
        status that followed, or the reason why there was nothing to run. Raises Stopping.
        """
        answer = self._until_done(
            lambda: self._office.ledger.claim(job_id, self._seat.id, self._host.clock(), plain),
            may_give_up=True,
        )
        if answer[0] != "run":
            return str(answer[0])
        claim = self._claimed(answer)
        host = self._host
        if host.task(claim.task).options.isolate:
            # threads don't come along into a fork, so that process has a companion of its own
            outcome = run_alone(
                lambda: self._run(host, claim, self._new_companion()),
                claim,
                self._host.clock,
            )
        else:
            outcome = self._run(host, claim, self._companion)
        return outcome, self._write_down(claim, outcome)

    # --- steps ---

    def _new_companion(self) -> Companion:
        return Companion(lambda: self._office.ledger, self._seat)

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

    def _run(self, host: Host, claim: Claim, companion: Companion) -> Outcome:
        def emit(report: Report) -> None:
            attempt.report = report

        attempt = Attempt(claim, host.context(claim, emit))
        with companion.beside(attempt):
            if host.task(claim.task).is_async:
                outcome = asyncio.run(self._run_coroutine(host, attempt))
            else:
                # a context of its own, so that nothing a task sets outlives it
                outcome = Context().run(run, host, attempt.context)
        if attempt.context.is_dirty:
            attempt.context.flush()
        last = attempt.report
        if last is not None:
            ledger, worker = self._office.ledger, self._seat.id
            self._until_done(lambda: ledger.report(claim.id, claim.attempt, worker, last))
        return outcome

    async def _run_coroutine(self, host: Host, attempt: Attempt) -> Outcome:
        loop = asyncio.get_running_loop()
        task = loop.create_task(run_async(host, attempt.context), context=Context())
        attempt.wake = lambda: loop.call_soon_threadsafe(task.cancel)
        return await task

    def _write_down(self, claim: Claim, outcome: Outcome) -> str:
        ledger, worker = self._office.ledger, self._seat.id
        now = self._host.clock()
        settlement = settled(outcome, claim, self._host, worker, now)
        status: str = self._until_done(
            lambda: ledger.finish(
                claim.id, claim.attempt, worker, settlement, now=now, patience=1.0
            )
        )
        if status == JobStatus.READY and not settlement.run_after:
            self._office.send_again([claim.id])
        elif status == "late":
            message = "an outcome came too late and was not written: job %s, attempt %d, %s"
            values = (claim.id, claim.attempt, outcome.ending)
            log.write(logging.WARNING, "outcome_refused", message, *values)
        return status

    def _until_done(self, work: Callable[[], Any], *, may_give_up: bool = False) -> Any:
        """Ask the ledger until it answers: a finished job's result must not be lost."""
        failures = 0
        while True:
            try:
                return work()
            except EngineUnavailable as error:
                if may_give_up and self._seat.is_draining:
                    raise Stopping from error
                if not failures:
                    message = "%s. The worker goes on trying"
                    log.write(logging.ERROR, "records_unavailable", message, error)
                time.sleep(RETRY_LEDGER[min(failures, len(RETRY_LEDGER) - 1)])
                failures += 1
