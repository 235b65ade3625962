"""What follows an attempt: one function from how it ended to what the ledger is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flask_offload.jobs.attempt import Claim, Ending, Outcome, crashed_for_good
from flask_offload.jobs.job import Attempt, Error, JobStatus, moment

from .redis_store import Settled

if TYPE_CHECKING:
    from flask_offload.engines.host import Host


def settled(outcome: Outcome, claim: Claim, host: Host, worker: str, now: float) -> Settled:
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
        expires_at=now + _keep(outcome, status, host, claim.task),
        attempt=b"" if ending is Ending.SUCCESSFUL else msgspec.json.encode(attempt),
        result=outcome.result,
        result_ttl=outcome.result_ttl,
    )


def _keep(outcome: Outcome, status: JobStatus, host: Host, task: str) -> float:
    """Seconds for which the job is kept if it ends now, also where its task could not be asked."""
    if outcome.keep is not None:
        return outcome.keep
    if status is JobStatus.SUCCESSFUL:
        return host.config.keep_successful
    if status is JobStatus.READY:  # then it ends only if somebody wants it stopped
        status = JobStatus.CANCELLED
    return host.keep_unsuccessful(task, status)
