"""The response of a view that ran as a job."""

from __future__ import annotations

from flask import Response, request

from ..jobs.job import Job, JobStatus
from ..state import AppRegistry
from .pages import job_page
from .preferences import prefers_html
from .problems import problem
from .representation import document, links, return_value
from .request_snapshot import ResponseSnapshot


def response_snapshot(offload: AppRegistry, job: Job) -> ResponseSnapshot | None:
    """The view's response; None if it is no longer kept, or can't be read."""
    returned = return_value(offload, job)
    return returned if isinstance(returned, ResponseSnapshot) else None


def expired(offload: AppRegistry, job: Job) -> Response:
    """410, for a job whose result has expired."""
    return problem(410, "The result is no longer kept.", links=links(offload, job))


def reply(offload: AppRegistry, job: Job) -> Response:
    """The view's response, or 500 if the view failed, or 410 if the job was cancelled."""
    if job.status is JobStatus.SUCCESSFUL:
        snapshot = response_snapshot(offload, job)
        return snapshot.replay() if snapshot else expired(offload, job)
    status = 410 if job.status is JobStatus.CANCELLED else 500
    if prefers_html(request.accept_mimetypes):
        return job_page(offload, job, status)
    shown = document(offload, job)
    reason = shown["error"]["message"] if shown["error"] else shown["summary"]
    return problem(status, reason, links=shown["links"])
