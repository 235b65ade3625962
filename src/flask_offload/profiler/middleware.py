"""The WSGI middleware that passes requests to the sampler.

It wraps the whole app, so that before_request, teardown and the iteration of a streamed body count
as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from random import random
from threading import get_ident
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.wsgi import ClosingIterator

from .profiler import Profiler
from .queries import QueryListener, QueryLog
from .request_sample import NO_ENVIRON, RequestSample, clock
from .sampler import Sampler

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Observer = Callable[[RequestSample], None]
observer: ContextVar[Observer | None] = ContextVar("flask_offload_observer", default=None)
"""Called with each request of this context before it begins, whatever fraction is profiled."""
observed: list[Observer] = []
"""The observers of all contexts; requests look for one while there are any."""


class ProfilerMiddleware:
    """fraction: of the requests to profile, 0 to 1; None: all in debug and testing, else none."""

    def __init__(self, app: Flask, profiler: Profiler, fraction: float | None) -> None:
        self._app = app
        self._wsgi_app: WSGIApplication = app.wsgi_app
        self._profiler = profiler
        self._wanted = fraction
        self._fraction: float | None = None
        self._profiles_all = False
        self._record = profiler.seen.extend
        self._above = profiler.above
        self._spare: list[RequestSample] = []

    def handle(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """The WSGI app: its bound method, which is called faster than an object is."""
        # Every request passes here, and most are over before the sampler has looked: those use the
        # object of an earlier one again, and what would be a call elsewhere is written out.
        if self._profiles_all and not observed:
            try:
                request = self._spare.pop()
            except IndexError:
                request = RequestSample(self._profiler)
        else:
            chosen = self._choose()
            if chosen is None:
                return self._wsgi_app(environ, start_response)
            request = chosen
        request.environ = environ
        request.next_start = start_response
        thread = get_ident()
        request.since = since = clock()
        outer = None
        if thread in _active or not sampler.is_awake:
            outer = _active.get(thread)
            sampler.enter(request)
        else:
            _active[thread] = request
        try:
            body = self._wsgi_app(environ, request.start)
            # servers treat some types of body specially (files): only Werkzeug's ordinary one is
            # wrapped, unless it is a list
            if type(body) is ClosingIterator:
                try:
                    response: Any = body._callbacks[-1].__self__  # type: ignore[attr-defined]
                    is_list = type(response.response) is list
                except (AttributeError, IndexError):  # not made by a response of Werkzeug's
                    is_list = False
                if not is_list and not _is_event_stream(request):
                    request.is_kept = request.streams = True
                    return _Streamed(request, body)
            return body
        finally:
            seconds = clock() - since
            if outer is None:
                _active.pop(thread, None)
            else:
                _active[thread] = outer
            if request.is_kept or seconds >= self._above:
                request.seconds = seconds
                if not request.streams:
                    request.count()
                    sampler.end(request)
            else:
                self._record((environ["REQUEST_METHOD"], request.rule, seconds, request.length))
                if "HTTP_X_REQUEST_START" in environ or "HTTP_X_QUEUE_START" in environ:
                    self._profiler.note_arrival(environ, request.rule, seconds)
                request.environ = NO_ENVIRON
                request.rule = request.length = None
                self._spare.append(request)

    def _choose(self) -> RequestSample | None:
        """A new request to profile, or None if this one is not to be."""
        fraction = self._fraction
        if fraction is None:
            fraction = self._first_request()
        observe = observer.get()
        if observe is None:
            return RequestSample(self._profiler) if random() < fraction else None
        request = RequestSample(self._profiler)
        request.is_kept = True
        observe(request)
        return request

    def _first_request(self) -> float:
        # not in init_app: TESTING is often set after it
        fraction = self._wanted
        if fraction is None:
            fraction = 1.0 if self._app.debug or self._app.testing else 0.0
        patched = cooperative_threads()
        if fraction and patched:
            self._app.logger.warning(
                "requests are not profiled: %s replaces the threads, so a request has no thread"
                " whose clock and stack can be read. Profile them with a threaded or sync worker,"
                " or set OFFLOAD_SPOT = False",
                patched,
            )
            fraction = 0.0
        self._fraction = float(fraction)
        self._profiles_all = fraction >= 1
        if fraction:
            queries.install()
            from . import findings  # noqa: F401  # now, and not while other requests are measured
        sampler.add_profiler(self._profiler)
        return self._fraction


class _Streamed:
    """A body that is generated while it is sent: profiled during each chunk, not in between."""

    def __init__(self, request: RequestSample, body: Any) -> None:
        self._request = request
        self._body = body
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        sampler.enter(self._request)
        try:
            chunk: bytes = next(self._body)
        except BaseException:  # StopIteration, as a rule; not every server calls close()
            sampler.leave(self._request)
            self._finish()
            raise
        sampler.leave(self._request)
        return chunk

    def close(self) -> None:
        try:
            self._body.close()
        finally:
            self._finish()

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._request.count()
            sampler.end(self._request)


def _is_event_stream(request: RequestSample) -> bool:
    """Whether it stays open by design."""
    return any(
        name == "Content-Type" and value.startswith("text/event-stream")
        for name, value in request.headers
    )


BOUNDARIES = (ProfilerMiddleware.handle.__code__, _Streamed.__next__.__code__)
"""The code whose frames are the outer ends of requests on a stack."""

sampler: Sampler = Sampler(BOUNDARIES)
_active = sampler.active


def _log_of(thread: int) -> QueryLog | None:
    request = _active.get(thread)
    return request.query_log() if request is not None else None


queries: QueryListener = QueryListener(_log_of, sampler.sample_if_overdue)


def cooperative_threads() -> str | None:
    """The name of the library that has replaced Python's threads in this process, if one has."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None
