"""A job as its HTTP client may see it: one document for JSON and for the page."""

from __future__ import annotations

import contextlib
import time
from hashlib import blake2b
from typing import Any

from flask import current_app, url_for

from ..errors import PayloadError
from ..jobs.job import Job, JobStatus
from ..state import AppRegistry
from .polling import remaining_seconds
from .words import DID_NOT_WORK, NOT_SEEN, language, say

RESPOND_ASYNC = "respond_async"
"""The origin of jobs that run a view."""

HEADINGS = {
    JobStatus.READY: "Waiting to start",
    JobStatus.RUNNING: "Working on it",
    JobStatus.SUCCESSFUL: "Done",
    JobStatus.FAILED: DID_NOT_WORK,
    JobStatus.CANCELLED: "Cancelled",
}

SILENT_FOR = 10
"""Seconds after which the time that has passed is shown, where the remaining one is unknown."""

PUBLIC_ERRORS = frozenset({"Discard", "JobCancelled", "JobTimeout", "WorkerDied"})
"""Errors whose message clients may see: a reason given by the task, or a text of this package."""


def document(offload: AppRegistry, job: Job) -> dict[str, Any]:
    """The job as its client may see it. Values are JSON, and datetimes.

    The names are those of `flask offload job --json`. Arguments, tracebacks and the names of
    workers are left out; the return value is included only if the task exposes it.
    """
    exposed = _exposes(offload, job)
    remaining = remaining_seconds(job, time.time())
    return {
        "id": job.id,
        "task": job.task,
        "queue_name": job.queue_name,
        "priority": job.priority,
        "status": job.status,
        "summary": summary(job),
        "run_after": job.run_after,
        "enqueued_at": job.enqueued_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "attempts": [
            {
                "number": attempt.number,
                "started_at": attempt.started_at,
                "finished_at": attempt.finished_at,
                "outcome": attempt.outcome,
            }
            for attempt in job.attempts
        ],
        "cancel_requested": job.cancel_requested,
        "progress": job.progress,
        "remaining_seconds": None if remaining is None else round(remaining, 1),
        "return_value": return_value(offload, job) if exposed else None,
        "error": public_error(job, exposed=exposed, debug=current_app.debug),
        "links": links(offload, job),
        "texts": texts(job),
    }


def links(offload: AppRegistry, job: Job) -> dict[str, str]:
    """Links: `self` always; `result`, `cancel` (POST) and `retry` (POST) while they are
    available."""
    found = {"self": url_for("offload.job", job_id=job.id)}
    has_result = is_reply(job) or (job.status is JobStatus.SUCCESSFUL and _exposes(offload, job))
    if has_result and not has_expired(offload, job):
        found["result"] = url_for("offload.result", job_id=job.id)
    flags = offload.engine.flags
    if (job.status is JobStatus.READY and flags.cancels_waiting) or (
        job.status is JobStatus.RUNNING and flags.cancels_running and not job.cancel_requested
    ):
        found["cancel"] = url_for("offload.cancel", job_id=job.id)
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED) and flags.retries:
        found["retry"] = url_for("offload.retry", job_id=job.id)
    return found


def etag(offload: AppRegistry, job: Job) -> str:
    """A digest that changes with the document, except for `remaining_seconds`, and is weak for that
    reason. It is cheap, because it is computed for every poll."""
    state = (
        job.id,
        job.status,
        len(job.attempts),
        job.started_at,
        job.finished_at,
        job.run_after,
        job.progress,
        job.cancel_requested,
        job.waiting_for,
        has_expired(offload, job),
        language(),
        _time_text(job),
    )
    return blake2b(repr(state).encode(), digest_size=12).hexdigest()


def public_error(job: Job, *, exposed: bool, debug: bool) -> dict[str, str | None] | None:
    """The error as its client may see it.

    The text of an exception may contain anything, such as addresses or SQL with its values. It is
    included for PUBLIC_ERRORS, if the task exposes its result, and with its traceback in debug.
    """
    error = job.error
    if error is None:
        return None
    if debug:
        return {"type": error.type, "message": error.message, "traceback": error.traceback}
    if exposed or error.type in PUBLIC_ERRORS:
        return {"type": error.type, "message": error.message}
    return {"type": error.type, "message": say("Something went wrong while it ran.")}


def summary(job: Job) -> str:
    """The state in a few words, for the visitor who waits."""
    ended = {
        JobStatus.SUCCESSFUL: "Done.",
        JobStatus.FAILED: "It failed.",
        JobStatus.CANCELLED: "It was cancelled.",
    }
    if job.is_finished:
        return say(ended[job.status])
    message = _message(job)
    if job.status is JobStatus.READY and job.attempts:
        message = ""
    return message or f"{heading(job)}…"


def heading(job: Job) -> str:
    """The state as the heading of a page."""
    if job.status is JobStatus.RUNNING and job.cancel_requested:
        return say("Stopping")
    if job.status is JobStatus.READY and job.attempts:
        return say("Trying again soon")
    return say(HEADINGS[job.status])


def texts(job: Job) -> dict[str, str]:
    """What `<offload-job>` shows, in the visitor's language. Empty: nothing."""
    fraction = job.progress.fraction if job.progress else None
    percent = None if fraction is None else int(fraction * 100)
    return {
        "heading": heading(job),
        "message": _message(job),
        "percent": "" if percent is None else say("{number}%", number=percent),
        "remaining": _time_text(job),
        "offline": say("No connection. Trying again…"),
        "gone": say(NOT_SEEN),
    }


def took(job: Job) -> str:
    """How long a job ran, from its first attempt to its end; empty if it never ran."""
    started_at = job.attempts[0].started_at if job.attempts else job.started_at
    if started_at is None or job.finished_at is None:
        return ""
    seconds = (job.finished_at - started_at).total_seconds()
    time_text = f"{max(1, round(seconds))} s" if seconds < 90 else duration(seconds)
    return say("It took {time}.", time=time_text)


def duration(seconds: float) -> str:
    """A rough duration for people: "less than 10 s", "about 40 s", "about 3 min", "about 2 h"."""
    if seconds < 10:
        return say("less than 10 s")
    if seconds < 90:
        return say("about {number} s", number=round(seconds / 10) * 10)
    if seconds < 90 * 60:
        return say("about {number} min", number=round(seconds / 60))
    return say("about {number} h", number=round(seconds / 3600))


def _time_text(job: Job) -> str:
    """The remaining time; where it is unknown, for a while, the time so far."""
    now = time.time()
    remaining = remaining_seconds(job, now)
    if remaining is not None:
        return say("{time} left", time=duration(remaining))
    if job.status is not JobStatus.RUNNING or job.started_at is None:
        return ""
    elapsed = now - job.started_at.timestamp()
    return say("{time} so far", time=duration(elapsed)) if elapsed >= SILENT_FOR else ""


def _message(job: Job) -> str:
    """What there is to say beside the heading."""
    if job.status is JobStatus.RUNNING and not job.cancel_requested:
        return (job.progress.message if job.progress else None) or ""
    if job.status is JobStatus.READY and job.attempts:
        return say("Attempt {number} did not succeed.", number=len(job.attempts))
    is_early = job.status is JobStatus.READY and job.waiting_for == "its time"
    return say("Waiting for its time") + "…" if is_early else ""


def is_reply(job: Job) -> bool:
    """Whether the job ran a view; then its result is an HTTP response."""
    return job.origin == RESPOND_ASYNC


def return_value(offload: AppRegistry, job: Job) -> Any:
    """The return value; None if it has expired, or can't be decoded any more."""
    if not has_expired(offload, job):
        with contextlib.suppress(PayloadError):
            return job.return_value
    return None


def has_expired(offload: AppRegistry, job: Job) -> bool:
    """Whether the time for which the task's results are kept (`result_ttl=`) is over. A stored
    result alone can't tell: there is none for a task that returned None."""
    task, finished_at = offload.tasks.get(job.task), job.finished_at
    ttl = None if task is None else task.options.result_ttl
    if ttl is None or finished_at is None or job.status is not JobStatus.SUCCESSFUL:
        return False
    return offload.current_state().clock() >= finished_at.timestamp() + ttl


def _exposes(offload: AppRegistry, job: Job) -> bool:
    """Whether the task exposes its return value. The result of a view has its own address."""
    task = offload.tasks.get(job.task)
    return task is not None and task.options.expose == "result" and not is_reply(job)
