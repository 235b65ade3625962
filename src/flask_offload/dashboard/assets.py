"""The dashboard's style sheet and script."""

from __future__ import annotations

import functools
from hashlib import blake2b
from pathlib import Path

from flask import Response, url_for
from werkzeug.exceptions import NotFound

STATIC = Path(__file__).parent / "static"
TYPES = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
YEAR = 365 * 24 * 3600


@functools.cache
def _asset(name: str) -> tuple[bytes, str]:
    """The content and its digest, read once per process."""
    content = (STATIC / name).read_bytes()
    return content, blake2b(content, digest_size=8).hexdigest()


def asset_url(name: str) -> str:
    """The address of a file of `static`; it changes with the content, so that browsers may cache
    it."""
    return url_for("offload_dashboard.asset", digest=_asset(name)[1], name=name)


def send_asset(digest: str, name: str) -> Response:
    """A static file. Under the digest of another version it is not cached."""
    if name not in TYPES:
        raise NotFound
    content, current = _asset(name)
    response = Response(content, mimetype=TYPES[name])
    is_current = digest == current
    response.headers["Cache-Control"] = (
        f"private, max-age={YEAR}, immutable" if is_current else "no-cache"
    )
    return response
