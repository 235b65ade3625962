"""A thread that reports the progress of running jobs, and receives requests to stop them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flask_offload.engine_api import Claim, JobContext, Report
from flask_offload.errors import EngineUnavailable

from .redis_store import RedisStore
from .worker_identity import WorkerIdentity

EXCHANGE_EVERY: Final = 0.25
"""Seconds between two exchanges with the store."""


@dataclass
class RunningAttempt:
    """A job that runs in this process. report: the last one that is not recorded yet. wake: cancels
    a coroutine at once when it is to stop."""

    claim: Claim
    context: JobContext
    report: Report | None = None
    wake: Callable[[], object] | None = None


class ProgressMonitor:
    """One for each process, so that the thread of a job never waits for the network."""

    def __init__(self, store: Callable[[], RedisStore], identity: WorkerIdentity) -> None:
        self._store = store
        self._identity = identity
        self._attempts: dict[str, RunningAttempt] = {}
        self._something_runs = threading.Event()
        threading.Thread(target=self._run, name="offload-progress-monitor", daemon=True).start()

    @contextlib.contextmanager
    def watching(self, attempt: RunningAttempt) -> Iterator[None]:
        """Report the attempt inside the block."""
        self._attempts[attempt.claim.id] = attempt
        self._something_runs.set()
        try:
            yield
        finally:
            del self._attempts[attempt.claim.id]
            if not self._attempts:
                self._something_runs.clear()

    def _run(self) -> None:
        while self._something_runs.wait():
            time.sleep(EXCHANGE_EVERY)
            for attempt in list(self._attempts.values()):
                # on an error the report is kept for the next exchange
                with contextlib.suppress(EngineUnavailable):
                    self._exchange(attempt)

    def _exchange(self, attempt: RunningAttempt) -> None:
        context, claim = attempt.context, attempt.claim
        if context.is_dirty:
            context.flush()
        if self._identity.is_draining:
            context.stop = context.stop or "drain"
        report = attempt.report
        command = self._store().report(claim.id, claim.attempt, self._identity.id, report)
        if attempt.report is report:
            attempt.report = None
        if command and context.stop != "cancel":  # to be stopped, or given to another worker
            context.stop = "cancel"
            if attempt.wake is not None:
                attempt.wake()
