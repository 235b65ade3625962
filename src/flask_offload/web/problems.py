"""Errors for clients: `application/problem+json` (RFC 9457), or a page for browsers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from flask import Response, render_template, request

from .preferences import prefers_html

MEDIA_TYPE = "application/problem+json"


def problem(
    status: int, detail: str, *, headers: dict[str, str] | None = None, **extra: Any
) -> Response:
    """An error response: what happened, and what to do. Never cached.

    extra: further members of the problem, such as `links`.
    """
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        **extra,
    }
    response = Response(status=status, headers=headers)
    if prefers_html(request.accept_mimetypes):
        response.mimetype = "text/html"
        response.set_data(render_template("offload/problem.html", problem=content))
        if "Retry-After" in response.headers and request.method == "GET":
            response.headers["Refresh"] = response.headers["Retry-After"]
    else:
        response.content_type = MEDIA_TYPE
        response.set_data(msgspec.json.encode(content))
    response.headers["Cache-Control"] = "no-store"
    response.vary.add("Accept")
    return response
