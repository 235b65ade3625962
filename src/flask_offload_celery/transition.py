"""What follows an attempt: one function from how it ended to what the ledger is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Attempt, JobStatus, moment
from flask_offload.jobs.transition import follow

from .redis_store import Settled

if TYPE_CHECKING:
    from flask_offload.engines.host import Host


def settled(outcome: Outcome, claim: Claim, host: Host, worker: str, now: float) -> Settled:
    """The status that follows `outcome`, with the counts and the times that go with it."""
    what, cancelled = (
        follow(
            outcome,
            failures=claim.failures,
            crashes=claim.crashes,
            on_crash=claim.on_crash,
            cancel_requested=cancel_requested,
        )
        for cancel_requested in (False, True)
    )
    attempt = Attempt(
        number=outcome.attempt,
        worker=worker,
        started_at=moment(outcome.started_at),
        finished_at=moment(outcome.finished_at),
        outcome=str(outcome.ending),
        error=what.error,
    )
    return Settled(
        status=what.status,
        status_if_cancelled=cancelled.status,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        failures=what.failures,
        crashes=what.crashes,
        run_after=now + what.after if what.after > 0 else 0.0,
        expires_at=now + _keep(outcome, what.status, host, claim.task),
        attempt=b"" if outcome.ending is Ending.SUCCESSFUL else msgspec.json.encode(attempt),
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
