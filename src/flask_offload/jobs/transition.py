"""The status that follows an attempt, decided here for every engine and every ending."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import InvalidTransition
from .attempt import Ending, Outcome
from .job import Error, JobStatus

MAX_CRASHES: Final = 3
"""Attempts whose process may die before the job fails: it may be the cause."""


class Next(NamedTuple):
    """What follows an attempt."""

    status: JobStatus
    """READY if the job runs again."""
    error: Error | None
    """The attempt's error, extended by the reason if the job is given up."""
    failures: int
    """Of all attempts so far."""
    crashes: int
    """The same, of attempts whose process died."""
    after: float
    """Seconds before a READY job may start."""
    is_quarantined: bool
    """Whether its next attempt needs a process of its own: one more crash ends the job."""


def follow(
    outcome: Outcome,
    *,
    failures: int = 0,
    crashes: int = 0,
    on_crash: str = "retry",
    cancel_requested: bool = False,
) -> Next:
    """The job's next state when an attempt ends.

    failures, crashes: of earlier attempts. on_crash: "retry" or "fail". cancel_requested: whether
    the job has been asked to stop; then it does not run again.
    """
    ending, error = outcome.ending, outcome.error
    failures += ending in (Ending.FAILED, Ending.RETRY)
    crashes += ending is Ending.CRASHED
    status = ending.status
    if status is JobStatus.READY:
        gave_up = _gave_up(ending, error, crashes, on_crash)
        if cancel_requested:
            status = JobStatus.CANCELLED
        elif gave_up is not None:
            status, error = JobStatus.FAILED, gave_up
    is_again = status is JobStatus.READY
    return Next(
        status=status,
        error=error,
        failures=failures,
        crashes=crashes,
        after=outcome.after if is_again else 0.0,
        is_quarantined=is_again and crashes == MAX_CRASHES - 1,
    )


def _gave_up(ending: Ending, error: Error | None, crashes: int, on_crash: str) -> Error | None:
    """The error with which the job ends although its attempt could be repeated; None if it is."""
    if ending is Ending.INTERRUPTED:
        # cut short without a checkpoint, and it may not run twice
        return error if on_crash == "fail" else None
    if ending is not Ending.CRASHED:
        return None
    if on_crash == "fail":
        why = "it may not run twice (on_crash='fail')"
    elif crashes >= MAX_CRASHES:
        why = f"that was crash {crashes} of {MAX_CRASHES}: the job may be what kills its worker"
    else:
        return None
    died = error or Error("WorkerDied", "the worker process died")
    return Error(died.type, f"{died.message}; not tried again, for {why}", died.traceback)


def check_cancel(status: JobStatus, job_id: str) -> None:
    """Raise InvalidTransition unless a job of this status can be cancelled."""
    if status.is_finished:
        raise InvalidTransition(
            f"job {job_id} can't be cancelled: it is finished already ({status})"
        )


def check_retry(status: JobStatus, job_id: str) -> None:
    """Raise InvalidTransition unless a job of this status can be run again by hand. A RUNNING job
    may become READY too, but only its worker may put it back."""
    if not status.is_finished:
        why = f"it is {status}; wait until it has finished, or cancel it first"
    elif status is JobStatus.SUCCESSFUL:
        why = f"it is finished already ({status})"
    else:
        return
    raise InvalidTransition(f"job {job_id} can't be retried: {why}")
