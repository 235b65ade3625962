"""Spotting: which requests block, and which function is to blame.

The middleware is around the whole app, so that before_request, teardown and the making of a
streamed body count as well.
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

from .profiler import Spotter
from .request_sample import Watched, clock
from .sampler import Watchdog

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

observer: ContextVar[Callable[[Watched], None] | None] = ContextVar(
    "flask_offload_observer", default=None
)
"""Told about each request of this context before it begins, whatever fraction is spotted."""


class SpotMiddleware:
    """fraction: of the requests to watch, 0 to 1; None: all in debug and testing, else none."""

    def __init__(self, app: Flask, spotter: Spotter, fraction: float | None) -> None:
        self._app = app
        self._wsgi_app: WSGIApplication = app.wsgi_app
        self._spotter = spotter
        self._wanted = fraction
        self._fraction: float | None = None

    def handle(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """The WSGI app: its bound method, which is called faster than an object is."""
        # Every request comes through here. What stands elsewhere as enter(), leave() and count() is
        # written out for the usual case: to call them would cost as much again.
        fraction = self._fraction
        if fraction is None:
            fraction = self._first_request()
        observe = observer.get()
        if observe is None and fraction < 1 and random() >= fraction:
            return self._wsgi_app(environ, start_response)
        watched = Watched()
        watched.spotter = spotter = self._spotter
        watched.environ = environ
        watched.next_start = start_response
        if observe is not None:
            observe(watched)
        thread = get_ident()
        watched.since = since = clock()
        outer = _active.setdefault(thread, watched)
        if outer is not watched or not watchdog.is_awake:
            watchdog.enter(watched)
        goes_on = False
        try:
            body = self._wsgi_app(environ, watched.start_response)
            # servers know some kinds of body and send them in ways of their own: only Werkzeug's
            # ordinary one is followed
            goes_on = watched.streams and type(body) is ClosingIterator
            return _Streamed(watched, body, observe is not None) if goes_on else body
        finally:
            seconds = watched.seconds = clock() - since
            if outer is watched:
                _active.pop(thread, None)
            else:
                _active[thread] = outer
            if not goes_on:
                if spotter.store is not None:
                    seen = (environ["REQUEST_METHOD"], watched.rule, seconds, watched.length)
                    spotter.seen.extend(seen)
                    if "HTTP_X_REQUEST_START" in environ or "HTTP_X_QUEUE_START" in environ:
                        spotter.note_arrival(environ, watched.rule, seconds)
                if seconds >= spotter.above or observe is not None:
                    watchdog.end(watched)

    def _first_request(self) -> float:
        # not in init_app: TESTING is often set after it
        fraction = self._wanted
        if fraction is None:
            fraction = 1.0 if self._app.debug or self._app.testing else 0.0
        patched = cooperative_threads()
        if fraction and patched:
            self._app.logger.warning(
                "blocking requests are not spotted: %s replaces the threads, and with them the"
                " clock and the stack that a request has to itself. Spot them with a threaded or"
                " sync worker, or set OFFLOAD_SPOT = False",
                patched,
            )
            fraction = 0.0
        self._fraction = float(fraction)
        watchdog.know(self._spotter)
        return self._fraction


class _Streamed:
    """A body that is made while it is sent: watched while its chunks are made, not in between."""

    def __init__(self, watched: Watched, body: Any, is_gated: bool) -> None:
        self._watched = watched
        self._body = body
        self._is_gated = is_gated
        self._is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        watchdog.enter(self._watched)
        try:
            chunk: bytes = next(self._body)
        except BaseException:  # StopIteration, as a rule; not everybody calls close()
            watchdog.leave(self._watched)
            self._finish()
            raise
        watchdog.leave(self._watched)
        return chunk

    def close(self) -> None:
        try:
            self._body.close()
        finally:
            self._finish()

    def _finish(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._watched.count()
            if self._is_gated or self._watched.is_slow:
                watchdog.end(self._watched)


BOUNDARIES = (SpotMiddleware.handle.__code__, _Streamed.__next__.__code__)
"""Where the part of a stack ends that belongs to a request."""

watchdog = Watchdog(BOUNDARIES)
_active = watchdog.active


def cooperative_threads() -> str | None:
    """The name of the library that has replaced Python's threads in this process, if one has."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None
