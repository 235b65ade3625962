"""One request under watch: the little that the request itself has to do for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .findings import SpotReport
from .profiler import Spotter

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from werkzeug.routing import Rule

    from .call_tree import CallTree

clock = time.perf_counter

FIRST_LOOK = 0.030
"""Age in seconds from which a request is looked at. Looking later makes the shares much less exact
(mean error 1.7 points when looking from 50 ms on, 9 from 200 ms on)."""


class Watched:
    """A request under watch. There is no __init__, and the defaults stand in the class: every
    request makes one of these, and most change no default.

    next_start: the server's `start_response`.
    since: when its code began to run. seconds: how long it ran before that; once it is over, in
    all. The `last_` fields belong to the thread that looks at it.
    """

    spotter: Spotter
    environ: WSGIEnvironment
    next_start: StartResponse
    tree: CallTree | None = None
    look_at = FIRST_LOOK
    last_age = 0.0
    last_thread: int | None = -1
    last_cpu: float | None = None
    rule: Rule | None = None
    length: str | None = None
    streams = False
    is_over = False
    outer: Watched | None = None
    since = 0.0
    seconds = 0.0
    method = ""
    _report: SpotReport | None = None

    def age(self, now: float) -> float:
        """Seconds of work so far; a streamed response works only while it makes its next chunk."""
        return self.seconds + now - self.since

    @property
    def is_slow(self) -> bool:
        """Whether it took long enough to be reported, once it is over."""
        return self.seconds >= self.spotter.above

    def note_route(self) -> None:
        """Note the route, for which Flask's request object must still be there."""
        request = self.environ.get("werkzeug.request")
        if request is not None:
            self.rule = request.url_rule

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Note what is known only now, and pass it on."""
        try:  # noqa: SIM105 (suppress() costs more than all the rest)
            self.rule = self.environ["werkzeug.request"].url_rule  # gone when the app returns
        except (KeyError, AttributeError):
            pass
        for name, value in headers:
            if name == "Content-Length":
                self.length = value
                break
        else:
            kind = next((value for name, value in headers if name == "Content-Type"), "")
            self.streams = not kind.startswith("text/event-stream")  # those are meant to last
        return self.next_start(status, headers, exc_info)

    def count(self) -> None:
        """Note what it has cost, now that it is over."""
        spotter, environ = self.spotter, self.environ
        if spotter.store is not None:
            spotter.seen.extend((environ["REQUEST_METHOD"], self.rule, self.seconds, self.length))
            spotter.note_arrival(environ, self.rule, self.seconds)

    def end(self) -> None:
        """It is over: let go of what belongs to the request."""
        self.method = self.environ["REQUEST_METHOD"]
        self.is_over = True
        self.environ = {}  # not deleted: the watchdog may be looking at this moment
        del self.next_start

    def report(self) -> SpotReport:
        """What was found, once it is over."""
        if self._report is None:
            self._report = self.spotter.report(
                self.rule,
                self.method,
                self.seconds,
                self.tree,
                self.last_age,
                streams=self.streams,
            )
        return self._report
