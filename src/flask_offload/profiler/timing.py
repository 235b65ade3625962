"""What one request costs: server time, app time, queue, enqueue, own spans, response size.

The figures are sent as a `Server-Timing` header (https://www.w3.org/TR/server-timing/).
"""

from __future__ import annotations

import functools
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast

from flask import Flask, request_finished, request_started

from .queue_time import arrival_header, queue_seconds

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

P = ParamSpec("P")
R = TypeVar("R")

Allowed = bool | Callable[[], bool] | None
"""Which requests get the header: all, none, those a callable allows; None: in debug and testing."""

MAX_ENTRIES = 10
MAX_LENGTH = 1000
"""Characters. Proxies refuse large headers (nginx: 4 to 8 kB for all of them together)."""

_NOT_IN_A_TOKEN = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_MAX_PARTS = 50
_clock = time.perf_counter


class Metric(NamedTuple):
    """One entry: a name, a duration in seconds (None: none), a description ("": none)."""

    name: str
    seconds: float | None = None
    description: str = ""


def server_timing(fixed: Iterable[Metric], parts: Iterable[Metric]) -> str:
    """The header's value: the `fixed` entries, then the longest `parts` that there is room for.

    What there is no room for is summed up as `other`, so that the figures still add up.
    """
    entries = [_entry(metric) for metric in fixed]
    ranked = sorted(parts, key=lambda part: -(part.seconds or 0.0))
    length = sum(len(entry) + 2 for entry in entries)
    for index, part in enumerate(ranked):
        text, rest = _entry(part), ranked[index + 1 :]
        is_last = not rest
        room = MAX_LENGTH - length - (0 if is_last else len(_entry(_other(ranked[index:]))) + 2)
        if len(text) > room or (len(entries) >= MAX_ENTRIES - 1 and not is_last):
            entries.append(_entry(_other(ranked[index:])))
            break
        entries.append(text)
        length += len(text) + 2
    return ", ".join(entries)


def _other(parts: list[Metric]) -> Metric:
    return Metric("other", sum(part.seconds or 0.0 for part in parts), f"{len(parts)} more")


def _entry(metric: Metric) -> str:
    text = _NOT_IN_A_TOKEN.sub("-", metric.name)[:64] or "-"
    if metric.seconds is not None:
        text += f";dur={max(metric.seconds, 0.0) * 1000:.1f}"
    if metric.description:
        # ASCII only: Chromium reads other bytes as latin-1
        plain = _NOT_PRINTABLE.sub("?", metric.description)[:120]
        plain = plain.replace("\\", "\\\\").replace('"', '\\"')
        text += f';desc="{plain}"'
    return text


class RequestTiming:
    """The figures of one request, in seconds of a monotonic clock."""

    def __init__(self, queued: float | None = None) -> None:
        self.began: float = _clock()
        self.queued = queued
        self.app_began: float | None = None
        self.app_seconds: float | None = None
        self.parts: dict[str, tuple[float, int, str]] = {}

    def add(self, name: str, seconds: float, description: str = "") -> None:
        """Count a part; parts of one name are summed, so that a loop of spans is one entry."""
        if name not in self.parts and len(self.parts) >= _MAX_PARTS:
            name = description = "other spans"
        total, count, known = self.parts.get(name, (0.0, 0, ""))
        self.parts[name] = (total + seconds, count + 1, known or description)

    def header(self) -> str:
        """The value for `Server-Timing`; `total` is the time until now."""
        fixed = [Metric("total", _clock() - self.began)]
        if self.queued is not None:
            fixed.append(Metric("queue", self.queued, "waited for a worker"))
        if self.app_seconds is not None:
            fixed.append(Metric("app", self.app_seconds))
        return server_timing(fixed, [_part(name, *part) for name, part in self.parts.items()])


def _part(name: str, seconds: float, count: int, description: str) -> Metric:
    # the token has no blanks or accents: the description keeps the name
    text = description or ("" if name.isidentifier() and name.isascii() else name)
    if count > 1:
        text = f"{text} {count} times".lstrip()
    return Metric(name, seconds, text)


_current: ContextVar[RequestTiming | None] = ContextVar("flask_offload_timing", default=None)


class span:
    """Measure a part of a request under a name of its own, as a context manager or a decorator.

        with offload.span("geocode"): ...

    name: shown in DevTools; never put user data into it. description: a longer text, likewise.
    Spans inside spans are counted in both. Outside a request that is being timed it does nothing.
    """

    def __init__(self, name: str, description: str | None = None) -> None:
        self.name = name
        self.description: str = description or ""
        self._timing: RequestTiming | None = None
        self._began = 0.0

    def __enter__(self) -> span:
        self._timing = _current.get()
        self._began = _clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timing is not None:
            self._timing.add(self.name, _clock() - self._began, self.description)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):
            coroutine = cast("Callable[P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def measured_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with span(self.name, self.description):
                    return await coroutine(*args, **kwargs)

            return cast("Callable[P, R]", measured_async)

        @functools.wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with span(self.name, self.description):
                return function(*args, **kwargs)

        return measured


def note_enqueue(seconds: float) -> None:
    """Count the time of an enqueue in the current request's timing; outside one it does nothing."""
    timing = _current.get()
    if timing is not None:
        timing.add("enqueue", seconds)


class TimingMiddleware:
    """Times every request of an app and adds the header.

    It is added in `start_response`, the last moment before the headers are sent, while the request
    context still exists for the callable. So a streamed response is timed up to its first byte.
    """

    def __init__(self, app: Flask, allowed: Allowed) -> None:
        self._app = app
        self._wsgi_app: WSGIApplication = app.wsgi_app
        self._allowed = allowed
        self._enabled: bool | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        if self._enabled is None:
            self._first_request()
        if not self._enabled:
            return self._wsgi_app(environ, start_response)
        timing = RequestTiming(queue_seconds(arrival_header(environ), time.time()))
        token = _current.set(timing)

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            if self._is_allowed():
                headers = [*headers, ("Server-Timing", timing.header())]  # others may exist
            return start_response(status, headers, exc_info)

        try:
            return self._wsgi_app(environ, start)
        finally:
            _current.reset(token)

    def _first_request(self) -> None:
        # not in init_app: TESTING is often set after it
        enabled = self._app.debug or self._app.testing if self._allowed is None else self._allowed
        if enabled:
            request_started.connect(_app_began, self._app)
            request_finished.connect(_app_finished, self._app)
        self._enabled = bool(enabled)

    def _is_allowed(self) -> bool:
        if not callable(self._allowed):
            return True
        try:
            return bool(self._allowed())
        except Exception:
            self._app.logger.exception("OFFLOAD_SERVER_TIMING's callable failed: header left out")
            return False


def _app_began(sender: Flask, **extra: Any) -> None:
    timing = _current.get()
    if timing is not None:
        timing.app_began = _clock()


def _app_finished(sender: Flask, **extra: Any) -> None:
    timing = _current.get()
    if timing is not None and timing.app_began is not None:
        timing.app_seconds = _clock() - timing.app_began
