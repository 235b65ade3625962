"""The profiler of one app: its routes and views, and where its reports go."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import apsw
from flask import Flask

from .call_tree import CallNode
from .queries import Query
from .queue_time import arrival_header
from .spot_report import Figures, SpotReport
from .stacks import UserCode
from .store import Batch, known_method, write

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.routing import Rule

    from .wording import Surroundings

NO_ROUTE = "(no route)"
MAX_LOGGED = 1000
"""Routes and functions whose last report in the log is remembered."""
_LOG_AGAIN = 60.0
"""Seconds until the same function is logged again, in production."""
_BUSY_AT_MOST = 10
"""Writes in a row that may find the store locked before samples are discarded."""


class Profiler:
    """above: seconds from which a request is reported. store: the evidence file, None for none."""

    def __init__(
        self,
        app: Flask,
        above: float,
        store: Path | None,
        is_task: Callable[[CodeType], bool],
        on_report: Callable[[SpotReport], None] | None = None,
    ) -> None:
        self.above = above
        self.store = store
        self.user_code: UserCode = UserCode(app.root_path)
        self._app = app
        self._is_task = is_task
        self._on_report = on_report
        self._is_writable = True
        self._busy = 0
        self._logged: dict[tuple[str, str], float] = {}
        # four values for each request, flat: its method, rule, seconds, and the length of its
        # response. One object each would cost a fast request more than all the rest.
        self.seen: list[Any] = []
        self.reset()

    def reset(self) -> None:
        """Discard what is not written yet."""
        self.seen.clear()
        self._arrivals: list[tuple[str, Rule | None, str | None, float]] = []
        self._batch = Batch()

    def note_arrival(self, environ: WSGIEnvironment, rule: Rule | None, seconds: float) -> None:
        """Record when a finished request arrived, if a proxy reported it."""
        header = arrival_header(environ)
        if header is not None:
            began = time.time() - seconds
            self._arrivals.append((environ["REQUEST_METHOD"], rule, header, began))

    def report(
        self,
        rule: Rule | None,
        method: str,
        figures: Figures,
        root: CallNode,
        *,
        streams: bool,
        queries: tuple[Query, ...],
    ) -> SpotReport:
        """The finding about one request, from its complete tree of calls."""
        from .findings import report  # here, as an app that is not profiled does without it

        around = replace(self.surroundings(rule, method), streams=streams, queries=queries)
        return report(route_name(rule, method), figures, root, around)

    def surroundings(self, rule: Rule | None, method: str) -> Surroundings:
        """What the advice about a request of one route needs of the app."""
        from .wording import Surroundings  # here for the same reason

        handled = {
            kind
            for handlers in self._app.error_handler_spec.values()
            for by_class in handlers.values()
            for kind in by_class
        }
        return Surroundings(
            self._view_codes(rule, method),
            self._app.root_path,
            self._is_task,
            method=method,
            handled=frozenset(handled),
        )

    def add_report(self, found: SpotReport) -> None:
        """Record it for the store, and log it: always in debug and testing, else once a minute for
        each function."""
        if self.store is not None:
            self._batch.add_report(found)
        if self._on_report is not None:
            self._on_report(found)
        function = found.blockers[0].function if found.blockers else ""
        now = time.monotonic()
        last = self._logged.get((found.route, function), -_LOG_AGAIN)
        if self._app.debug or self._app.testing or now - last >= _LOG_AGAIN:
            if len(self._logged) >= MAX_LOGGED:
                self._logged.clear()
            self._logged[found.route, function] = now
            self._app.logger.warning("%s", found.sentence)

    @property
    def has_unwritten(self) -> bool:
        """Whether there is something to write."""
        return bool(self.seen or self._batch.routes or self._batch.blockers)

    def write(self) -> None:
        """Write into the store what was recorded since the last write."""
        self._gather()
        if self.store is None or not (self._batch.routes or self._batch.blockers):
            return
        try:
            write(self.store, self._batch)
        except apsw.BusyError:
            self._busy += 1
            if self._busy <= _BUSY_AT_MOST:
                return
        except (apsw.Error, OSError) as error:
            if self._is_writable:
                self._app.logger.warning("evidence can't be written to %s: %s", self.store, error)
            self._is_writable = False
        else:
            self._is_writable, self._busy = True, 0
        self._batch = Batch()

    def _gather(self) -> None:
        """Group by route what the requests have recorded."""
        values = self.seen[:]
        del self.seen[: len(values)]  # requests may have added some meanwhile
        seen = iter(values)
        arrivals, self._arrivals = self._arrivals, []
        for method, rule, seconds, length in zip(seen, seen, seen, seen, strict=True):
            route = self._batch.route(method, NO_ROUTE if rule is None else rule.rule)
            route.seconds.append(seconds)
            if length is not None:
                route.lengths.append(length)
        for method, rule, header, began in arrivals:
            route = self._batch.route(method, NO_ROUTE if rule is None else rule.rule)
            route.arrivals.append((header, began))

    def _view_codes(self, rule: Rule | None, method: str) -> frozenset[CodeType]:
        view: Any = self._app.view_functions.get(rule.endpoint) if rule is not None else None
        view_class = getattr(view, "view_class", None)
        if view_class is not None:
            names = (method.lower(), "get" if method == "HEAD" else "", "dispatch_request")
            candidates = [_static_attribute(view_class, name) for name in names]
        else:
            candidates = [view]
        codes = (getattr(_innermost(item), "__code__", None) for item in candidates if item)
        return frozenset(code for code in codes if code is not None)


def _innermost(function: Any) -> Any:
    """The function inside of decorators and partials."""
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = inspect.unwrap(function)
        function = function.func if isinstance(function, functools.partial) else function
    return function


def _static_attribute(kind: type, name: str) -> Any:
    """A class's attribute, without running descriptors."""
    return inspect.getattr_static(kind, name, None)


def route_name(rule: Rule | None, method: str) -> str:
    """How a route is called in reports: `POST /users/<int:id>`."""
    return f"{known_method(method)} {rule.rule if rule is not None else NO_ROUTE}"
