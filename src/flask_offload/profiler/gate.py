"""A gate for tests: no request may block.

with no_blocking():                 # deterministic: no mail, network, programs, written files
    client.post("/signup")
with no_blocking(max_ms=300):       # by time: names the function, whatever it does
    client.post("/signup")
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event
from types import CodeType, FrameType
from typing import NamedTuple

from ..errors import OffloadError
from .advice import advice
from .attribution import Part
from .audit_events import Blocking, install_hook, listener
from .call_tree import CallTree, Spent
from .middleware import BOUNDARIES, observer, sampler
from .profiler import route_name
from .request_sample import FIRST_SAMPLE, RequestSample
from .stacks import Place, Stack, frames_within, read_stack
from .wording import chain_of

_PACKAGE = __name__.partition(".")[0]
_WRITERS = frozenset({"importlib", "linecache", "logging", "werkzeug", "flask", "jinja2"})
"""Libraries that write files routinely: bytecode, logs, parts of uploads, caches."""


class BlockingCall(OffloadError, AssertionError):
    """A request does what a background job should do."""


class NoRequestProfiled(OffloadError):
    """No request was made inside of no_blocking(), so nothing was checked: make it with the test
    client of an app that has Flask-Offload. Requests to a server in another thread or process
    are not seen.
    """


@contextmanager
def no_blocking(
    max_ms: float | None = None, *, events: bool | None = None, allow: Iterable[str] = ()
) -> Iterator[None]:
    """Fail if a request that is made inside of the block blocks.

    max_ms: milliseconds that a request may take. Names the function that took them; on a busy
    machine a request may be slow without blocking.
    events: fail for what Python's audit events report: connecting to a server, sending mail,
    starting a program, opening a file to write. The same on every machine, however fast the other
    side is.
    It does not see computing, locks, queries on connections that are open already, drivers
    written in C, SQLite files, nor (before Python 3.13) `time.sleep`.
    The default is max_ms alone if it is given, else events alone.
    allow: what events let pass: kinds ("mail", "network", "process", "file", "sleep"), events
    ("subprocess.Popen"), hosts with port ("db.internal:5432"), programs, files, as patterns
    with `*` and `?`.

    Raises BlockingCall at the end of the block, an AssertionError that lists what was found, and
    NoRequestProfiled when no request was seen.
    """
    if isinstance(allow, str):
        raise TypeError(f"allow takes a list of patterns: allow=[{allow!r}]")
    gate = _Gate(max_ms, tuple(allow))
    observing = observer.set(gate.observe)
    listens = events if events is not None else max_ms is None
    if listens:
        install_hook()
    listening = listener.set(gate.note if listens else None)
    try:
        yield
    finally:
        listener.reset(listening)
        observer.reset(observing)
    gate.check()


class _Found(NamedTuple):
    """A blocking event, the request that caused it, and the stack it came from."""

    blocking: Blocking
    request: RequestSample
    stack: Stack


class _Gate:
    def __init__(self, max_ms: float | None, allow: tuple[str, ...]) -> None:
        self._max_ms = max_ms
        self._allow = allow
        self._requests: list[RequestSample] = []
        self._found: dict[tuple[int, CodeType | None], _Found] = {}
        self._attempt: tuple[Place | None, int, bool] = (None, 0, False)

    def observe(self, request: RequestSample) -> None:
        """A request begins."""
        if self._max_ms is not None:
            request.next_sample = min(FIRST_SAMPLE, self._max_ms / 3000)
            request.settled = Event()
        self._requests.append(request)

    def note(self, blocking: Blocking) -> None:
        """Record a blocking event, if it belongs to a request and was caused by user code."""
        request = self._requests[-1] if self._requests else None
        if request is None or request.is_over:
            return
        frames, _ = frames_within(sys._getframe(2), BOUNDARIES)
        stack = read_stack(frames, request.profiler.user_code)
        if _is_routine(blocking, _packages_inside(frames, request)):
            return
        if self._is_allowed(blocking, stack.at):
            return
        request.note_route()
        function = stack.at.function if stack.at else None  # reported once
        found = _Found(blocking, request, stack)
        self._found.setdefault((len(self._requests), function), found)

    def _is_allowed(self, blocking: Blocking, at: Place | None) -> bool:
        """Whether it is on the list, or a step of something that is.

        What may send mail may look up the host and connect to its address.
        """
        last_at, last_depth, is_allowed = self._attempt
        if blocking.depth == 0 or blocking.depth < last_depth or at != last_at:
            is_allowed = blocking.is_allowed(self._allow)
        self._attempt = (at, blocking.depth, is_allowed)
        return is_allowed

    def check(self) -> None:
        """Raise BlockingCall if something was found, NoRequestProfiled without a request."""
        if not self._requests:
            raise NoRequestProfiled
        problems = [*self._too_long(), *map(_in_words, self._found.values())]
        if problems:
            raise BlockingCall("\n".join(problems))

    def _too_long(self) -> Iterator[str]:
        if self._max_ms is None:
            return
        for request in self._requests:
            if request.seconds * 1000 > self._max_ms:
                found = sampler.report(request)
                yield f"{found.sentence} (at most {self._max_ms:,.0f} ms are allowed)"


def _packages_inside(frames: list[FrameType], request: RequestSample) -> set[str]:
    """The libraries between the innermost user code and the event."""
    packages = set()
    for frame in reversed(frames):
        if frame.f_code.co_filename in request.profiler.user_code:
            break
        packages.add(str(frame.f_globals.get("__name__")).partition(".")[0])
    return packages


def _is_routine(blocking: Blocking, packages: set[str]) -> bool:
    if _PACKAGE in packages:
        return True  # an enqueue writes into its database and wakes a worker
    return blocking.kind == "file" and not packages.isdisjoint(_WRITERS)


def _in_words(found: _Found) -> str:
    """`POST /signup sends mail (smtplib.connect mail:25) in mail.py:9 send <- app.py:30 signup.`"""
    blocking, request, stack = found
    around = request.profiler.surroundings(request.rule, request.method)
    tree = CallTree()
    tree.add(stack, Spent(), Spent())
    call = tree.complete(Spent(), Spent())
    while call.children:
        call = call.children[0]
    what = f"{blocking.event} {blocking.detail}".rstrip()
    text = f"{route_name(request.rule, request.method)} {blocking.does} ({what})"
    if call.code is None:
        return f"{text}, which no code of this app called"
    chain = " <- ".join(chain_of(call, stack.at, around.root))
    return f"{text} in {chain}. {advice(Part(call, Spent()), around)}"
