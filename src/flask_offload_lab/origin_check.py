"""Keeps other web pages from driving an app that listens on this machine.

Any page in the reader's browser can send requests to 127.0.0.1, directly (CSRF) or under a host
name of its own that resolves to it (DNS rebinding). So the Host header must be the app's own, and a
request that a browser sends for a page of another site is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Flask, Response, abort, redirect, request
from werkzeug.wrappers import Response as BaseResponse

SAFE = {"GET", "HEAD", "OPTIONS"}


class OriginCheck:
    """One per app: `OriginCheck(…).install(app)`.

    origin: where the app is reached. allowed: other origins whose pages may use it and frame it.
    frames: origins that its own pages may frame. links: whether pages of any site may link to it;
    only right when no GET has an effect.
    """

    def __init__(
        self,
        origin: str,
        *,
        allowed: Collection[str] = (),
        frames: Collection[str] = (),
        links: bool = False,
    ) -> None:
        self._origin = origin
        self._host = urlsplit(origin).netloc
        self._origins = {origin, *allowed}
        self._links = links
        self._headers = {
            "Content-Security-Policy": _policy(allowed, frames),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if not allowed:
            self._headers["Cross-Origin-Resource-Policy"] = "same-origin"

    def install(self, app: Flask) -> None:
        """Check every request before the app's own code, and add headers to every response."""
        app.before_request(self._check)
        app.after_request(self._add_headers)

    def _check(self) -> BaseResponse | None:
        if request.host != self._host:
            alias = self._host.replace("127.0.0.1", "localhost")
            if request.host == alias and request.method in SAFE:
                return redirect(self._origin + request.full_path.rstrip("?"))
            abort(403, f"This app answers only as {self._host}.")
        if not (self._is_safe() if request.method in SAFE else self._is_own()):
            abort(403, "This request was sent for the page of another site.")
        return None

    def _is_own(self) -> bool:
        """For requests that change something: browsers send the origin with each of them."""
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site")
        return origin in self._origins if origin else site == "same-origin"

    def _is_safe(self) -> bool:
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site in ("none", "same-origin"):
            return True
        if self._links and request.headers.get("Sec-Fetch-Dest") == "document":
            return True
        referrer = urlsplit(request.headers.get("Referer", ""))
        return site == "same-site" and f"{referrer.scheme}://{referrer.netloc}" in self._origins

    def _add_headers(self, response: Response) -> Response:
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)  # the job pages have stricter ones
        return response


def _policy(allowed: Collection[str], frames: Collection[str]) -> str:
    """No inline script or style, and nothing from other origins but what the framed apps show."""
    parts = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:", *frames],
        "connect-src": ["'self'"],
        "frame-src": frames or ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": allowed or ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in parts.items())
