"""The responses that refer a client to a job: 202, or a redirect."""

from __future__ import annotations

import time

import msgspec
from flask import Response, current_app, request, url_for

from ..jobs.job import Job
from ..state import AppRegistry
from .polling import retry_after
from .preferences import prefers_html
from .representation import links


def accepted(job: Job) -> Response:
    """202 with `Location`, `Retry-After` and a JSON body: `id`, `status`, `links`.

    A browser that navigates is redirected to the waiting page (303): it would display the JSON,
    and a reload would send the form again.
    """
    if prefers_html(request.accept_mimetypes):
        response = see_job(job)
    else:
        response = accepted_json(current_app.extensions["offload"], job)
    response.vary.add("Accept")
    return response


def accepted_json(offload: AppRegistry, job: Job) -> Response:
    """202, for browsers too."""
    body = {"id": job.id, "status": job.status, "links": links(offload, job)}
    response = Response(msgspec.json.encode(body), 202, mimetype="application/json")
    response.headers["Location"] = url_for("offload.job", job_id=job.id)
    response.headers["Retry-After"] = str(retry_after(job, time.time()))
    response.headers["Cache-Control"] = "no-store"
    return response


def see_job(job: Job) -> Response:
    """303 to the job."""
    return _see_other(url_for("offload.job", job_id=job.id))


def see_result(job: Job) -> Response:
    """303 to the job's result."""
    return _see_other(url_for("offload.result", job_id=job.id))


def _see_other(location: str) -> Response:
    headers = {"Location": location, "Cache-Control": "no-store"}
    return Response(status=303, headers=headers)
