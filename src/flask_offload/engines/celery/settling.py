"""What follows an attempt: one function from how it ended to what the ledger is told."""

from __future__ import annotations

from typing import Final

import msgspec

from ...attempt import Claim, Ending, Outcome
from ...config import Config
from ...job import Attempt, Error, JobStatus, moment
from ..base import NewJob
from .ledger import Settled

MAX_CRASHES: Final = 3
"""Attempts whose process may die before the job is given up: it may be what kills it."""


def claim_of(
    job: NewJob,
    *,
    seq: int,
    attempt: int,
    failures: int,
    crashes: int,
    enqueued_at: float,
    claimed_at: float,
    cursor: str | None,
) -> Claim:
    """An attempt at a job, as the pipeline takes it. seq: any number; it is not looked at."""
    return Claim(
        seq=seq,
        id=job.id,
        task=job.task,
        queue_name=job.queue_name,
        lane=job.lane,
        priority=job.priority,
        attempt=attempt,
        failures=failures,
        crashes=crashes,
        on_crash=job.on_crash,
        owner=job.owner,
        origin=job.origin,
        enqueued_at=enqueued_at,
        claimed_at=claimed_at,
        args=job.args,
        context=job.context,
        cursor=cursor,
    )


def settled(outcome: Outcome, claim: Claim, config: Config, worker: str, now: float) -> Settled:
    """The status that follows `outcome`, with the counts and the times that go with it."""
    ending, error = outcome.ending, outcome.error
    failures = claim.failures + (ending in (Ending.FAILED, Ending.RETRY))
    crashes = claim.crashes + (ending is Ending.CRASHED)
    status = _status(ending)
    if ending is Ending.CRASHED and (why := _given_up(claim, crashes)):
        status = JobStatus.FAILED
        died = error or Error("WorkerDied", "the worker process died")
        error = Error(died.type, f"{died.message}; not tried again, for {why}", died.traceback)
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


def _status(ending: Ending) -> JobStatus:
    if ending in (Ending.SUCCESSFUL, Ending.FAILED, Ending.CANCELLED):
        return JobStatus(str(ending))
    return JobStatus.READY


def _given_up(claim: Claim, crashes: int) -> str:
    """Why a job whose process died is not tried again; "" if it is."""
    if claim.on_crash == "fail":
        return "it may not run twice (on_crash='fail')"
    if crashes >= MAX_CRASHES:
        return f"that was crash {crashes} of {MAX_CRASHES}: the job may be what kills its worker"
    return ""
