"""The response of a view that ran as a job."""

from __future__ import annotations

import contextlib

from flask import Response, request

from ..errors import PayloadError
from ..jobs.job import Job, JobStatus
from ..state import AppRegistry
from .pages import job_page
from .preferences import prefers_html
from .problems import problem
from .representation import document
from .request_snapshot import ResponseSnapshot


def response_snapshot(job: Job) -> ResponseSnapshot | None:
    """The view's response; None if it is no longer kept, or can't be read."""
    with contextlib.suppress(PayloadError):
        if isinstance(job.return_value, ResponseSnapshot):
            return job.return_value
    return None


def reply(offload: AppRegistry, job: Job) -> Response:
    """The view's response, or 500 if the view failed, or 410 if the job was cancelled."""
    if job.status is JobStatus.SUCCESSFUL:
        snapshot = response_snapshot(job)
        return snapshot.replay() if snapshot else problem(410, "The result is no longer kept.")
    status = 410 if job.status is JobStatus.CANCELLED else 500
    if prefers_html(request.accept_mimetypes):
        return job_page(offload, job, status)
    shown = document(offload, job)
    reason = shown["error"]["message"] if shown["error"] else shown["summary"]
    return problem(status, reason, links=shown["links"])
