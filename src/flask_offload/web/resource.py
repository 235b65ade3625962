"""A job over HTTP: read, cancel, retry, fetch the result."""

from __future__ import annotations

import contextlib
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec
from flask import Response, request

from ..errors import InvalidTransition, JobNotFound
from ..jobs.job import Job, JobStatus
from ..state import AppRegistry
from .accepted import next_address, redirect, see_job, see_result
from .pages import job_page
from .polling import PollLimiter, waiting_headers
from .preferences import prefers_html
from .problems import problem
from .replies import expired, reply, response_snapshot
from .representation import document, etag, has_expired, is_reply


class TooManyPolls(Exception):
    """A client polls too often. seconds: to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class JobResource:
    """The handlers of a job's addresses. A job that the client may not see is not found."""

    def __init__(self, offload: AppRegistry) -> None:
        self._offload = offload
        self._limiter = PollLimiter()

    # --- handlers ---

    def show(self, job_id: str) -> Response:
        """GET of the job: its document as JSON, or its page.

        For clients that know only `Location`, a job of `respond_async` answers 202 until it has
        ended, then redirects to its result (302), or is 410 when that has expired. With `?status`,
        and for other jobs, it is 200.
        """
        job = self._find(job_id)
        for_result = is_reply(job) and "status" not in request.args
        if for_result and job.is_finished:
            is_gone = has_expired(self._offload, job)
            return expired(self._offload, job) if is_gone else see_result(job)
        browser = prefers_html(request.accept_mimetypes)
        then = next_address()
        if browser and then and job.status is JobStatus.SUCCESSFUL:
            return redirect(then)
        response = job_page(self._offload, job) if browser else self._json(job)
        if for_result and response.status_code == 200:
            response.status_code = 202
        return response

    def delete(self, job_id: str) -> Response:
        """DELETE of the job: cancel it. 200 if it is cancelled, 202 if it was asked to stop."""
        job = self._find(job_id)
        if job.status is not JobStatus.CANCELLED:
            job.cancel()
        response = self._json(job)
        response.status_code = 200 if job.is_finished else 202
        return response

    def cancel(self, job_id: str) -> Response:
        """POST by the page's button. No error if the job has just ended: the page shows it."""
        return self._press(job_id, Job.cancel)

    def retry(self, job_id: str) -> Response:
        """POST by the page's button: run a failed or cancelled job again."""
        return self._press(job_id, Job.retry)

    def result(self, job_id: str) -> Response:
        """GET of the result: the view's response, or the return value of a task that exposes it."""
        job = self._find(job_id)
        if is_reply(job):
            return reply(self._offload, job) if job.is_finished else see_job(job)
        task = self._offload.tasks.get(job.task)
        if task is None or task.options.expose != "result":
            return problem(404, "The result of this job is not shown.")
        if not job.is_finished:
            return see_job(job)
        if has_expired(self._offload, job):
            return expired(self._offload, job)
        shown = document(self._offload, job)
        if job.status is not JobStatus.SUCCESSFUL:
            reason = shown["error"]["message"] if shown["error"] else shown["summary"]
            return problem(410, f"There is no result: {reason}", links=shown["links"])
        return _json_response(shown["return_value"])

    def post_to_result(self, job_id: str) -> Response:
        """POST to the result. A form in it without an `action` is sent here; 307 redirects it to
        the view that made the page."""
        job = self._find(job_id)
        snapshot = response_snapshot(self._offload, job) if is_reply(job) else None
        if snapshot is None:
            return problem(404, "There is nothing here that takes a form.")
        headers = {"Location": snapshot.url, "Cache-Control": "no-store"}
        return Response(status=307, headers=headers)

    # --- steps ---

    def _find(self, job_id: str) -> Job:
        """The job, if there is one and the client may see it. Raises JobNotFound, TooManyPolls."""
        client = request.remote_addr or ""
        self._count(client, job_id)
        try:
            job = self._offload.get_job(job_id)
            authorizer = self._offload.authorizer
            if authorizer is not None and not authorizer(job):
                raise JobNotFound
        except JobNotFound:
            self._count(client, "")  # one count for all misses, so that guessing is limited
            raise
        return job

    def _count(self, client: str, job_id: str) -> None:
        rate = self._offload.current_state().config.poll_limit
        wait = self._limiter.check((client, job_id), rate, time.monotonic())
        if wait:
            raise TooManyPolls(wait)

    def _json(self, job: Job) -> Response:
        """The document with its ETag, or 304 before the document is made."""
        tag = etag(self._offload, job)
        is_read = request.method in ("GET", "HEAD")  # a DELETE has had an effect
        if is_read and request.if_none_match.contains_weak(tag):
            response = Response(status=304)
        else:
            response = _json_response(document(self._offload, job))
        response.set_etag(tag, weak=True)
        response.headers.update(waiting_headers(job, time.time()))
        response.headers["Cache-Control"] = "no-store"
        response.vary.add("Accept")
        return response

    def _press(self, job_id: str, action: Any) -> Response:
        # browsers send forms across sites without a preflight, unlike DELETE
        if not _is_own_page():
            return problem(403, "This button was pressed on a page of another site.")
        job = self._find(job_id)
        with contextlib.suppress(InvalidTransition):
            action(job)
        return see_job(job)


def _is_own_page() -> bool:
    """Whether a form was sent by a page of this site, as far as the browser says. Browsers send
    `Sec-Fetch-Site` to https and localhost only, but `Origin` with each POST. The former decides:
    behind a proxy that changes `Host`, the latter differs from it for own pages too."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def _json_response(value: Any) -> Response:
    data = msgspec.json.encode(value, enc_hook=str)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(data, mimetype="application/json", headers=headers)
