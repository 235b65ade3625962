"""The responses that refer a client to a job: 202, or a redirect."""

from __future__ import annotations

import re
import time
from urllib.parse import urlencode, urlsplit

import msgspec
from flask import Response, current_app, request, url_for

from ..jobs.job import Job
from ..state import AppRegistry
from .polling import waiting_headers
from .preferences import prefers_html
from .representation import links

HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")

MAX_PATH = 1000
"""Characters of an address that is kept for the page's links."""


def accepted(job: Job, then: str | None = None) -> Response:
    """202 with `Location`, `Retry-After` and a JSON body: `id`, `status`, `links`.

    `Location` is absolute, and `Content-Location` is the same: of the clients that were written for
    other servers, some can't resolve a relative one, and some read only the latter.

    A browser that navigates is redirected to the waiting page (303): it would display the JSON,
    and a reload would send the form again. then: where that page leads when the job has succeeded.
    Raises ValueError if that is not an address of this site.
    """
    if then is not None and own_path(then) is None:
        raise ValueError(
            f"then={then!r} is not an address of this app: pass a path that begins with a slash, as"
            " url_for returns it"
        )
    if prefers_html(request.accept_mimetypes):
        response = see_job(job, then)
    else:
        response = accepted_json(current_app.extensions["offload"], job)
    response.vary.add("Accept")
    return response


def accepted_json(offload: AppRegistry, job: Job) -> Response:
    """202, for browsers too."""
    body = {"id": job.id, "status": job.status, "links": links(offload, job)}
    response = Response(msgspec.json.encode(body), 202, mimetype="application/json")
    response.headers["Location"] = response.headers["Content-Location"] = _job_url(job)
    response.headers.update(waiting_headers(job, time.time()))
    response.headers["Cache-Control"] = "no-store"
    return response


def see_job(job: Job, then: str | None = None) -> Response:
    """A redirect to the job, whose page leads to `then` when it has succeeded."""
    address = url_for("offload.job", job_id=job.id)
    then = then or next_address()
    return redirect(f"{address}?{urlencode({'then': then})}" if then else address)


def see_result(job: Job) -> Response:
    """A redirect to the job's result."""
    return redirect(url_for("offload.result", job_id=job.id))


def next_address() -> str | None:
    """The `then` of a request to a job's address."""
    address = request.args.get("then") if request.blueprint == "offload" else None
    return own_path(address) if address else None


def own_path(address: str) -> str | None:
    """The path, query and fragment of an address; None if it is not one of this site, for a
    browser."""
    parts = urlsplit(address)
    is_own = (parts.scheme, parts.netloc) in [
        ("", ""),
        ("http", request.host),
        ("https", request.host),
    ]
    path = parts._replace(scheme="", netloc="").geturl()
    odd = "\\" in path or any(ord(character) < 32 for character in path)
    if not is_own or odd or len(path) > MAX_PATH or not path.startswith("/"):
        return None
    return None if path.startswith("//") else path


def _job_url(job: Job) -> str:
    """The absolute address of the job; the path, if the request names no usable host."""
    return url_for("offload.job", job_id=job.id, _external=_is_usable(request.host))


def _is_usable(host: str) -> bool:
    """Whether this can stand in an address. Werkzeug checks it from 3.1 on."""
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return HOST.fullmatch(host) is not None


def redirect(location: str) -> Response:
    """302 for a GET: clients of long-running operations follow only that. 303 for a POST, which
    must not be repeated at the new address."""
    status = 302 if request.method in ("GET", "HEAD") else 303
    headers = {"Location": location, "Cache-Control": "no-store"}
    return Response(status=status, headers=headers)
