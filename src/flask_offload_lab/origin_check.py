"""Keeps other web pages from driving an app that listens on this machine.

Any page in the reader's browser can send requests to 127.0.0.1, directly (CSRF) or under a name of
its own that it lets point there (DNS rebinding). So the Host header must be ours, and a request
that a browser sends for a page of somebody else is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Flask, Response, abort, redirect, request
from werkzeug.wrappers import Response as BaseResponse

SAFE = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """One per app: `Guard(…).watch(app)`.

    origin: where the app is reached. friends: other origins whose pages may use it and frame it.
    frames: origins that its own pages may frame. links: whether pages of the world may link to it;
    only right when no GET has an effect.
    """

    def __init__(
        self,
        origin: str,
        *,
        friends: Collection[str] = (),
        frames: Collection[str] = (),
        links: bool = False,
    ) -> None:
        self._origin = origin
        self._host = urlsplit(origin).netloc
        self._origins = {origin, *friends}
        self._links = links
        self._headers = {
            "Content-Security-Policy": _policy(friends, frames),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if not friends:
            self._headers["Cross-Origin-Resource-Policy"] = "same-origin"

    def watch(self, app: Flask) -> None:
        """Check every request of the app first, and give every answer its headers."""
        app.before_request(self._check)
        app.after_request(self._add_headers)

    def _check(self) -> BaseResponse | None:
        if request.host != self._host:
            alias = self._host.replace("127.0.0.1", "localhost")
            if request.host == alias and request.method in SAFE:
                return redirect(self._origin + request.full_path.rstrip("?"))
            abort(403, f"This app answers only as {self._host}.")
        if not (self._is_safe() if request.method in SAFE else self._is_ours()):
            abort(403, "This request was sent for the page of another site.")
        return None

    def _is_ours(self) -> bool:
        """For requests that change something: browsers tell the origin of each of them."""
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


def _policy(friends: Collection[str], frames: Collection[str]) -> str:
    """No inline script or style, nothing from elsewhere but what the framed apps show."""
    parts = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:", *frames],
        "connect-src": ["'self'"],
        "frame-src": frames or ["'none'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": friends or ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in parts.items())
