"""What happens to the jobs of a child process that has ended."""

from __future__ import annotations

import os
import signal
import time

import msgspec

from ..jobs.attempt import Claim, Ending, Outcome
from ..jobs.job import Error, JobStatus
from ..jobs.transition import follow
from .child_handle import Stop
from .messages import Crashed, Ended, ResolveTimeout


def exit_outcome(
    claim: Claim, started: float, stop: Stop | None, reason: str, *, is_ending: bool
) -> Outcome | ResolveTimeout:
    """The outcome of a job that was running when its child process ended.

    started: monotonic seconds. stop: why the pool killed the child. reason: how it ended.
    is_ending: whether the whole worker is being stopped.
    """
    began = time.time() - (time.monotonic() - started)

    def ended(ending: Ending, kind: str, text: str) -> Outcome:
        error = Error(kind, text)
        return Outcome(claim.seq, claim.attempt, ending, began, time.time(), error=error)

    if stop is not None and stop.seq == claim.seq:
        if stop.timeout is None:
            text = "the job was stopped by force while it ran"
            return ended(Ending.CANCELLED, "JobCancelled", text)
        text = (
            f"the job ran longer than its timeout of {stop.timeout:g} s, did not stop by itself,"
            " and was stopped by force"
        )
        return ResolveTimeout(claim, text, began)
    if is_ending:
        return ended(Ending.INTERRUPTED, "Interrupted", "its worker was stopped while the job ran")
    if stop is not None:
        text = "another job's process, which was also this one's, was stopped while it ran"
        return ended(Ending.INTERRUPTED, "Interrupted", text)
    text = f"the process that ran the job died ({reason})"
    return ended(Ending.CRASHED, "WorkerDied", text)


def exit_events(claim: Claim, outcome: Outcome, reason: str) -> list[Crashed | Ended]:
    """The signals to send for a job whose child process ended before it could send them.

    reason: how the process ended.
    """
    if outcome.ending is Ending.CANCELLED:
        return [Ended(claim, outcome)]
    if outcome.ending is not Ending.CRASHED:
        return []
    events: list[Crashed | Ended] = [Crashed(claim.id, claim.task, claim.attempt, reason)]
    what = follow(outcome, crashes=claim.crashes, on_crash=claim.on_crash)
    if what.status is JobStatus.FAILED:
        final = msgspec.structs.replace(outcome, ending=Ending.FAILED, error=what.error)
        events.append(Ended(claim, final))
    return events


def unresolved(timeout: ResolveTimeout) -> Outcome:
    """The outcome of a job that was stopped by force for its timeout, when no child is left that
    could apply its task's retry policy."""
    claim, error = timeout.claim, Error("JobTimeout", timeout.message)
    return Outcome(
        *(claim.seq, claim.attempt, Ending.FAILED, timeout.began, time.time()), error=error
    )


def exit_reason(status: int, *, was_unresponsive: bool = False) -> str:
    """A wait status in words. was_unresponsive: it was killed for closing its channel."""
    code = os.waitstatus_to_exitcode(status)
    if was_unresponsive:
        return "it had closed the connection to its worker, as os.closerange does"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
