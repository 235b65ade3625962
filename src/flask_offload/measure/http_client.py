"""One timed HTTP request, with the standard library only."""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .form import encode, hidden_fields
from .samples import Answer, ServerTiming

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .target import Target

SERVER_TOTAL = "total"
"""The Server-Timing entry that holds the time of the whole request in the app."""

TIMED_OUT = "timed out"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """A request, ready to be sent any number of times."""

    url: str
    method: str
    body: bytes | None
    headers: dict[str, str]


def prepare(target: Target, timeout: float) -> Request:
    """Turn a target into a request; fetches its start page for cookies and hidden form fields.

    Raises OSError or http.client.HTTPException if the start page can't be fetched.
    """
    headers = {"User-Agent": "flask-offload-measure"} | dict(target.headers)
    if target.method != "POST":
        return Request(target.url, target.method, None, headers)
    fields = target.fields
    if target.start is not None:
        hidden, cookies = _visit(Request(target.start, "GET", None, headers), target.url, timeout)
        given = {name for name, _ in fields}
        fields += tuple((name, value) for name, value in hidden.items() if name not in given)
        if cookies:
            headers["Cookie"] = "; ".join(filter(None, [headers.get("Cookie"), cookies]))
    body, content_type = encode(fields)
    # Flask-WTF compares these with the host where HTTPS is used.
    headers |= {"Content-Type": content_type, "Origin": target.origin}
    headers["Referer"] = target.start or target.url
    return Request(target.url, "POST", body, headers)


def _visit(page: Request, action_url: str, timeout: float) -> tuple[dict[str, str], str]:
    """Hidden fields and cookies that the start page gives."""
    connection = _send(page, timeout)
    try:
        response = connection.getresponse()
        html = response.read().decode("utf-8", "replace")
        jar = SimpleCookie()
        for header in response.headers.get_all("Set-Cookie", []):
            try:
                jar.load(header)
            except CookieError:
                continue
    finally:
        connection.close()
    cookies = "; ".join(f"{name}={morsel.coded_value}" for name, morsel in jar.items())
    return hidden_fields(html, page.url, action_url), cookies


def _send(request: Request, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(request.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(request.method, path, body=request.body, headers=request.headers)
    except BaseException:
        connection.close()
        raise
    return connection


def ask(request: Request, *, timeout: float, began: float, due: float | None = None) -> Answer:
    """Send the request on a connection of its own, like a new visitor, and time the answer.

    began: time.perf_counter() when the probing began. due: when the request should have been sent;
    the wait counts from then, so that a late sender does not hide it (coordinated omission).
    Redirects are not followed: the figures are those of this very request.
    """
    start = time.perf_counter() if due is None else due
    at_s = start - began
    try:
        return _timed(request, timeout, start, at_s)
    except TimeoutError:
        waited = _ms_since(start)
        return Answer(at_s, ttfb_ms=waited, response_ms=waited, error=TIMED_OUT)
    except (OSError, http.client.HTTPException) as error:
        return Answer(at_s, error=f"{type(error).__name__}: {error}")


def _timed(request: Request, timeout: float, start: float, at_s: float) -> Answer:
    connection = _send(request, timeout)
    try:
        response = connection.getresponse()
        ttfb_ms = _ms_since(start)
        while response.read1(_CHUNK):
            if _ms_since(start) > timeout * 1000:  # an endless stream never times out by itself
                raise TimeoutError
        timings = parse_server_timing(response.headers.get_all("Server-Timing", []))
        return Answer(
            at_s, ttfb_ms, _ms_since(start), status=response.status, server_ms=server_total(timings)
        )
    finally:
        connection.close()


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000


_QUOTED = r'"(?:\\.|[^"\\])*"'
_ENTRY = re.compile(rf"(?:{_QUOTED}|[^,])+")
_PART = re.compile(rf"(?:{_QUOTED}|[^;])+")
_NAME = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)")  # a token of RFC 9110


def parse_server_timing(headers: Iterable[str]) -> tuple[ServerTiming, ...]:
    """Read `Server-Timing` headers (W3C Server Timing); several headers add up.

    As in Chromium, the first `dur` of an entry wins, one that is no number counts as 0, and a name
    ends where its token ends.
    """
    return tuple(
        timing
        for header in headers
        for entry in _ENTRY.findall(header)
        if (timing := _server_timing(entry)) is not None
    )


def _server_timing(entry: str) -> ServerTiming | None:
    name = _NAME.match(entry)
    if name is None:
        return None
    given: dict[str, str] = {}
    for parameter in _PART.findall(entry)[1:]:
        key, _, value = parameter.partition("=")
        given.setdefault(key.strip().lower(), value.strip())
    try:
        duration = float(given.get("dur", "0"))
    except ValueError:
        duration = 0.0
    description = given.get("desc", "")
    if description.startswith('"'):
        description = re.sub(r"\\(.)", r"\1", description[1:].removesuffix('"'))
    return ServerTiming(name[1], duration, description)


def server_total(timings: Iterable[ServerTiming]) -> float | None:
    """The app's own time in ms, if it reports one."""
    return next((timing.duration for timing in timings if timing.name == SERVER_TOTAL), None)
