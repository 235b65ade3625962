"""The thread beside running jobs: it carries their progress out, and wishes to stop in."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flask_offload.errors import EngineUnavailable
from flask_offload.jobs.attempt import Claim, Report
from flask_offload.jobs.context import JobContext

from .redis_store import Ledger
from .worker_identity import Seat

LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a running job."""


@dataclass
class Attempt:
    """A job that runs in this process. report: what it said last and nobody has written down.
    wake: lets a coroutine hear at once that it shall stop."""

    claim: Claim
    context: JobContext
    report: Report | None = None
    wake: Callable[[], object] | None = None


class Companion:
    """One for each process. The job's own thread never waits for the network."""

    def __init__(self, ledger: Callable[[], Ledger], seat: Seat) -> None:
        self._ledger = ledger
        self._seat = seat
        self._attempts: dict[str, Attempt] = {}
        self._something_runs = threading.Event()
        threading.Thread(target=self._accompany, name="offload-companion", daemon=True).start()

    @contextlib.contextmanager
    def beside(self, attempt: Attempt) -> Iterator[None]:
        """Accompany the attempt inside the block."""
        self._attempts[attempt.claim.id] = attempt
        self._something_runs.set()
        try:
            yield
        finally:
            del self._attempts[attempt.claim.id]
            if not self._attempts:
                self._something_runs.clear()

    def _accompany(self) -> None:
        while self._something_runs.wait():
            time.sleep(LOOK_EVERY)
            for attempt in list(self._attempts.values()):
                with contextlib.suppress(EngineUnavailable):  # the report is kept for the next look
                    self._look_after(attempt)

    def _look_after(self, attempt: Attempt) -> None:
        context, claim = attempt.context, attempt.claim
        if context.is_dirty:
            context.flush()
        if self._seat.is_draining:
            context.stop = context.stop or "drain"
        report = attempt.report
        wish = self._ledger().report(claim.id, claim.attempt, self._seat.id, report)
        if attempt.report is report:
            attempt.report = None
        if wish and context.stop != "cancel":  # asked to stop, or given to another worker
            context.stop = "cancel"
            if attempt.wake is not None:
                attempt.wake()
