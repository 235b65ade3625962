"""One profiled request, and what its own thread has to record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from .call_tree import CallTree, Spent
from .profiler import Profiler
from .queries import QueryLog
from .spot_report import Figures, SpotReport

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from werkzeug.routing import Rule

clock: Callable[[], float] = time.perf_counter

FIRST_SAMPLE = 0.012
"""Age in seconds of a request at its first sample. Starting later makes the shares much less exact
(mean error 1.7 points when sampling from 50 ms on, 9 from 200 ms on)."""
_SLACK = 0.020
"""Seconds by which a sample may be late: the interpreter changes threads every 5 ms only."""

NO_ENVIRON: dict[str, Any] = {}
_reporting = Lock()  # a gate asks in a thread of its own
# a process that is forked during a report would wait for it forever
os.register_at_fork(
    before=_reporting.acquire,
    after_in_parent=_reporting.release,
    after_in_child=_reporting.release,
)


class RequestSample:
    """A profiled request. One that is over before anything was added to it is used for another.

    environ, next_start: what the server passed. headers: of a response without a length. streams:
    its body is generated while it is sent. since: when its code began to run. seconds: how long it
    ran before that; once it is over, in all. is_kept: it is not used for another, because something
    may refer to it. settled: for gates; set once the sampler adds nothing any more. log: the
    statements that it runs. The fields from `next_sample` to `queued_at` belong to the sampler's
    thread.
    """

    __slots__ = (  # those first that each request touches
        *("environ", "next_start", "start", "since", "rule", "length", "streams", "is_kept"),
        *("profiler", "outer", "log", "headers", "seconds", "method", "is_over", "settled"),
        *("tree", "next_sample", "last_age", "pause", "last_thread", "number", "last_cpu"),
        *("last_queued", "queued_at", "_report"),
    )

    def __init__(self, profiler: Profiler) -> None:
        self.profiler = profiler
        self.start: StartResponse = self._start_response
        self.is_kept: bool = False
        self.streams: bool = False
        self.is_over: bool = False
        self.outer: RequestSample | None = None
        self.log: QueryLog | None = None
        self.settled: Event | None = None
        self.since: float = 0.0
        self.seconds: float = 0.0
        self.method: str = ""
        self.tree: CallTree | None = None
        self.next_sample: float = FIRST_SAMPLE
        self.last_age: float = 0.0
        self.pause: float = FIRST_SAMPLE / 2
        self.last_thread: int | None = -1
        self.number: int | None = None
        self.last_cpu: float | None = None
        self.last_queued: float | None = None
        self.queued_at: float = 0.0
        self._report: SpotReport | None = None
        self.reset()

    def reset(self) -> None:
        """Release what belongs to the server's request."""
        self.environ: WSGIEnvironment = NO_ENVIRON  # the sampler may be reading it
        self.next_start: StartResponse | None = None
        self.rule: Rule | None = None
        self.length: str | None = None
        self.headers: Sequence[tuple[str, str]] = ()

    def age(self, now: float) -> float:
        """Seconds of work so far; a streamed response works only while it makes its next chunk."""
        return self.seconds + now - self.since

    def query_log(self) -> QueryLog:
        """The statements that it has run."""
        if self.log is None:
            self.is_kept = True
            self.log = QueryLog(self.profiler.user_code)
        return self.log

    @property
    def reach(self) -> float:
        """Seconds that a sample may stand for; what is beyond was not seen."""
        return 2 * self.pause + _SLACK

    @property
    def is_slow(self) -> bool:
        """Whether it took long enough to be reported, once it is over."""
        return self.seconds >= self.profiler.above

    def note_route(self) -> None:
        """Record the route, for which Flask's request object must still exist."""
        request = self.environ.get("werkzeug.request")
        if request is not None:
            self.rule = request.url_rule

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Record the route and the length, and pass the call on."""
        try:  # noqa: SIM105 (suppress() costs more than all the rest)
            self.rule = self.environ["werkzeug.request"].url_rule  # gone when the app returns
        except (KeyError, AttributeError):
            pass
        for name, value in headers:
            if name == "Content-Length":
                self.length = value
                break
        else:
            self.headers = headers
        return self.next_start(status, headers, exc_info)  # type: ignore[misc]

    def count(self) -> None:
        """Record what it cost, once it is over."""
        profiler, environ = self.profiler, self.environ
        profiler.seen.extend((environ["REQUEST_METHOD"], self.rule, self.seconds, self.length))
        profiler.note_arrival(environ, self.rule, self.seconds)

    def end(self) -> None:
        """Mark it as over, and release the server's request."""
        self.method = self.environ["REQUEST_METHOD"]
        self.is_over = True
        self.environ = NO_ENVIRON
        self.next_start = None

    def report(self) -> SpotReport:
        """The report, once it is over."""
        with _reporting:
            if self._report is None:
                tree = self.tree or CallTree()
                rest = max(self.seconds - self.last_age, 0.0)
                seen = min(rest, self.reach)
                self._report = self.profiler.report(
                    self.rule,
                    self.method,
                    Figures(self.seconds, tree.samples),
                    tree.complete(Spent(seen), Spent(rest - seen)),
                    streams=self.streams,
                    queries=self.log.queries() if self.log is not None else (),
                )
            return self._report
