"""The browser's side of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, url_for

from ..errors import JobNotFound
from ..job import Job

if TYPE_CHECKING:
    from ..extension import Offload


def make_blueprint(offload: Offload) -> Blueprint:
    blueprint = Blueprint("offload", __name__)

    @blueprint.get("/jobs/<job_id>")
    def job(job_id: str) -> Any:
        try:
            found = offload.get_job(job_id)
        except JobNotFound as error:
            return {"title": "Not Found", "detail": str(error)}, 404
        return {"id": found.id, "status": found.status}

    return blueprint


def accepted(job: Job) -> Response:
    response = jsonify(id=job.id, status=job.status)
    response.status_code = 202
    response.headers["Location"] = url_for("offload.job", job_id=job.id)
    response.headers["Retry-After"] = "1"
    return response


def respond_async(offload: Offload, view: Any, **options: Any) -> Any:
    raise NotImplementedError
