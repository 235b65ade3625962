"""The pages of a job for browsers."""

from __future__ import annotations

import time
from urllib.parse import urlencode

from flask import Response, render_template
from markupsafe import Markup

from ..jobs.job import Job
from ..state import AppRegistry
from .accepted import next_address
from .polling import retry_after, waiting_headers
from .representation import document, duration, took

__all__ = ["duration", "job_page", "progress", "sentence"]

REFERENCE = 12
"""Characters of a job's id that a visitor can quote; the dashboard and `flask offload job` find the
job by them."""

FASTEST_RELOAD = 2
"""Seconds between two reloads of the waiting page where there is no JavaScript."""


def job_page(offload: AppRegistry, job: Job, status: int = 200) -> Response:
    """The job as a page: waiting, done, failed or cancelled.

    While the job runs, the page reloads itself by header. The script on it stops that, and polls.
    """
    then = next_address()
    html = render_template(
        "offload/job.html",
        job=document(offload, job),
        took=took(job),
        reference=job.id[:REFERENCE],
        query=f"?{urlencode({'then': then})}" if then else "",
    )
    response = Response(html, status, mimetype="text/html")
    if not job.is_finished:
        now = time.time()
        response.headers.update(waiting_headers(job, now))
        response.headers["Refresh"] = str(max(FASTEST_RELOAD, retry_after(job, now)))
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "same-origin"  # the address gives access to the job
    response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    response.vary.add("Accept")
    return response


def progress(offload: AppRegistry, job: Job) -> Markup:
    """`{{ offload_progress(job) }}`: an `<offload-job>` in its current state, for a page of the
    app.

    The parts that the script will update take their space from the start, to avoid layout shifts.
    """
    shown = document(offload, job)
    parts = Markup(render_template("offload/progress.html", job=shown))
    element = Markup('<offload-job class="offload-job" href="{}">{}</offload-job>')
    return element.format(shown["links"]["self"], parts)


def sentence(text: str) -> str:
    """An error's message as a sentence: "no such row" becomes "No such row."."""
    text = text.strip()
    end = "" if text.endswith((".", "!", "?", "…", ":")) else "."
    return text[:1].upper() + text[1:] + end if text else ""


# --- files -------------------------------------------------------------------------------------
