"""What the store records when an attempt has ended."""

from __future__ import annotations

import msgspec

from flask_offload.engine_api import (
    Attempt,
    Claim,
    Ending,
    Host,
    JobStatus,
    Outcome,
    follow,
    moment,
)

from .redis_store import Transition


def transition_of(
    outcome: Outcome, claim: Claim, host: Host, worker: str, now: float
) -> Transition:
    """The status that follows `outcome`, with the counts and the times that go with it."""
    following, if_cancelled = (
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
        error=following.error,
    )
    return Transition(
        status=following.status,
        status_if_cancelled=if_cancelled.status,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        failures=following.failures,
        crashes=following.crashes,
        run_after=now + following.after if following.after > 0 else 0.0,
        expires_at=now + _keep(outcome, following.status, host, claim.task),
        attempt=b"" if outcome.ending is Ending.SUCCESSFUL else msgspec.json.encode(attempt),
        result=outcome.result,
        result_ttl=outcome.result_ttl,
    )


def _keep(outcome: Outcome, status: JobStatus, host: Host, task: str) -> float:
    """Seconds for which the job is kept if it ends now, also if its process died."""
    if outcome.keep is not None:
        return outcome.keep
    if status is JobStatus.SUCCESSFUL:
        return host.config.keep_successful
    if status is JobStatus.READY:  # it ends now only if it was asked to stop
        status = JobStatus.CANCELLED
    return host.keep_unsuccessful(task, status)
