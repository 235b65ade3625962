"""Which modes the reader has finished: a cookie, so that it works without JavaScript."""

from __future__ import annotations

from flask import request
from werkzeug.wrappers import Response

from .modes import BY_SLUG, MODES

COOKIE = "lab_done"
YEAR = 365 * 86_400


def done() -> set[str]:
    """The slugs of the finished modes; anything else in the cookie is ignored."""
    return {slug for slug in request.cookies.get(COOKIE, "").split(".") if slug in BY_SLUG}


def remember(response: Response, slugs: set[str]) -> Response:
    """Store them in the browser."""
    value = ".".join(mode.slug for mode in MODES if mode.slug in slugs)
    response.set_cookie(COOKIE, value, max_age=YEAR, httponly=True, samesite="Strict")
    return response
