"""What follows an attempt: one function from how it ended to what the ledger is told."""

from __future__ import annotations

import msgspec

from ...attempt import Claim, Ending, Outcome, crashed_for_good
from ...config import Config
from ...job import Attempt, Error, JobStatus, moment
from .ledger import Settled


def settled(outcome: Outcome, claim: Claim, config: Config, worker: str, now: float) -> Settled:
    """The status that follows `outcome`, with the counts and the times that go with it."""
    ending, error = outcome.ending, outcome.error
    failures = claim.failures + (ending in (Ending.FAILED, Ending.RETRY))
    crashes = claim.crashes + (ending is Ending.CRASHED)
    status = ending.status
    final: Error | None = None
    if ending is Ending.CRASHED:
        final = crashed_for_good(error, crashes=crashes, on_crash=claim.on_crash)
    if final is not None:
        status, error = JobStatus.FAILED, final
    elif ending is Ending.INTERRUPTED and claim.on_crash == "fail" and error is not None:
        status = JobStatus.FAILED  # cut short without a checkpoint, and it may not run twice
    kept = config.keep_successful if status is JobStatus.SUCCESSFUL else config.keep_failed
    attempt = Attempt(
        number=outcome.attempt,
        worker=worker,
        started_at=moment(outcome.started_at),
        finished_at=moment(outcome.finished_at),
        outcome=str(ending),
        error=error,
    )
    return Settled(
        status=status,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        failures=failures,
        crashes=crashes,
        run_after=now + outcome.after if outcome.after > 0 else 0.0,
        expires_at=now + (kept if outcome.keep is None else outcome.keep),
        attempt=b"" if ending is Ending.SUCCESSFUL else msgspec.json.encode(attempt),
        result=outcome.result,
        result_ttl=outcome.result_ttl,
    )
