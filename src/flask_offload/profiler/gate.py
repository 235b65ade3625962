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
from threading import Event, Thread, current_thread, get_ident
from types import CodeType, FrameType
from typing import NamedTuple

from ..errors import OffloadError
from .activity import Activity
from .advice import advice
from .attribution import Part
from .audit_events import TEMPORARY, Blocking, elsewhere, install_hook, listener
from .call_tree import CallTree, Spent
from .middleware import BOUNDARIES, observed, observer, sampler
from .profiler import route_name
from .request_sample import FIRST_SAMPLE, RequestSample
from .stacks import Place, Stack, frames_within, read_stack
from .waits import reported_to
from .wording import chain_of

_PACKAGE = __name__.partition(".")[0]
_WRITERS = frozenset(
    {"importlib", "linecache", "logging", "werkzeug", "flask", "jinja2", "tempfile", "sqlalchemy"}
)
"""Libraries that write files routinely: bytecode, logs, parts of uploads, caches, temporary files,
and what is hooked to a commit."""
_POOLS = frozenset({"concurrent.futures.thread", "multiprocessing.pool"})
_SAYS = {Activity.HTTP: "sends an HTTP request", Activity.MAIL: "sends mail"}
"""What an event of the network belongs to: libraries look up the host first."""


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
    observed.append(gate.observe)
    try:
        if events if events is not None else max_ms is None:
            with gate.listening():
                yield
        else:
            yield
    finally:
        observed.remove(gate.observe)
        observer.reset(observing)
    gate.check()


class _Found(NamedTuple):
    """A blocking event, the request that caused it, and the stack it came from. thread: the one
    that it happened in, None for the request's own."""

    blocking: Blocking
    request: RequestSample
    stack: Stack
    thread: Thread | None = None


class _Gate:
    def __init__(self, max_ms: float | None, allow: tuple[str, ...]) -> None:
        self._max_ms = max_ms
        self._allow = allow
        self._requests: list[RequestSample] = []
        self._found: dict[tuple[int, CodeType | None], _Found] = {}
        self._attempt: tuple[Place | None, int, bool] = (None, 0, False)
        self._temporary: list[str] = []
        self._ident = 0
        self._parents: dict[Thread, Thread] = {}
        self._awaited: list[Thread | None] = []
        self._pending: list[_Found] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note blocking events, of the requests and of the threads that they wait for."""
        install_hook()
        listening = listener.set(self.note)
        elsewhere.append(self.note_elsewhere)
        try:
            with reported_to(self):
                yield
        finally:
            elsewhere.remove(self.note_elsewhere)
            listener.reset(listening)

    def observe(self, request: RequestSample) -> None:
        """A request begins."""
        if self._max_ms is not None:
            request.next_sample = min(FIRST_SAMPLE, self._max_ms / 3000)
            request.settled = Event()
        self._requests.append(request)
        self._ident = get_ident()
        self._parents.clear()
        self._awaited.clear()
        self._pending.clear()

    @property
    def _current(self) -> RequestSample | None:
        request = self._requests[-1] if self._requests else None
        return request if request is not None and not request.is_over else None

    def note(self, blocking: Blocking) -> None:
        """Record a blocking event, if it belongs to a request and was caused by user code."""
        request = self._current
        if request is None:
            return
        frames, _ = frames_within(sys._getframe(2), BOUNDARIES)
        self._note(blocking, request, frames, None)

    # --- other threads ------------------------------------------------------------------------

    def note_elsewhere(self, blocking: Blocking) -> None:
        """Record a blocking event of another thread, if the request waits for that thread."""
        request, thread = self._current, current_thread()
        if request is None or thread.ident == self._ident:
            return
        frames, _ = frames_within(sys._getframe(2), BOUNDARIES)
        modules = {str(frame.f_globals.get("__name__")) for frame in frames}
        is_own = any(name.startswith(_PACKAGE) and ".profiler." not in name for name in modules)
        if is_own or (thread not in self._parents and modules.isdisjoint(_POOLS)):
            return  # a worker in this process, a server of the test
        top = sys._current_frames().get(self._ident)
        around = frames_within(top, BOUNDARIES)[0] if top is not None else []
        self._note(blocking, request, around + frames, thread)

    def thread_starts(self, thread: Thread) -> None:
        """A thread of the request, or one that such a thread started, starts another."""
        starter = current_thread()
        if self._current is not None and (get_ident() == self._ident or starter in self._parents):
            self._parents[thread] = starter

    def wait_begins(self, thread: Thread | None) -> None:
        """The calling thread waits for this one, or for something that another does."""
        if self._current is not None and get_ident() == self._ident:
            self._awaited.append(thread)
            pending, self._pending = self._pending, []
            for found in pending:
                self._add(found)

    def wait_ends(self, thread: Thread | None) -> None:
        """The calling thread goes on."""
        if thread in self._awaited and get_ident() == self._ident:
            self.wait_begins(thread)  # for what happened meanwhile
            self._awaited = [each for each in self._awaited if each is not thread]

    def _is_awaited(self, thread: Thread) -> bool:
        chain: list[Thread | None] = [None, thread]
        while (parent := self._parents.get(thread)) is not None:
            chain.append(parent)
            thread = parent
        return any(each in chain for each in self._awaited)

    def _note(
        self,
        blocking: Blocking,
        request: RequestSample,
        frames: list[FrameType],
        thread: Thread | None,
    ) -> None:
        stack = read_stack(frames, request.profiler.user_code)
        if blocking.kind == TEMPORARY:
            self._temporary.append(blocking.detail)
            return
        if _is_routine(blocking, _packages_inside(frames, request)):
            return
        if blocking.event == "open" and blocking.detail.startswith(tuple(self._temporary)):
            return
        if self._is_allowed(blocking, stack.at):
            return
        if blocking.kind == "network" and stack.activity in _SAYS:
            blocking = blocking._replace(does=_SAYS[stack.activity])
        request.note_route()
        self._add(_Found(blocking, request, stack, thread))

    def _add(self, found: _Found) -> None:
        if found.thread is not None and not self._is_awaited(found.thread):
            self._pending.append(found)
            return
        function = found.stack.at.function if found.stack.at else None  # reported once
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
    if blocking.kind != "file":
        return False
    is_lock = blocking.detail.lower().endswith("lock")
    return is_lock or not packages.isdisjoint(_WRITERS)


def _in_words(found: _Found) -> str:
    """`POST /signup sends mail (smtplib.connect mail:25) in mail.py:9 send <- app.py:30 signup.`"""
    blocking, request, stack, _ = found
    around = request.profiler.surroundings(request.rule, request.method)
    tree = CallTree()
    tree.add(stack, Spent())
    call = tree.complete(Spent(), Spent())
    while call.children:
        call = call.children[0]
    what = f"{blocking.event} {blocking.detail}".rstrip()
    text = f"{route_name(request.rule, request.method)} {blocking.does} ({what})"
    if call.code is None:
        return f"{text}, which no code of this app called"
    chain = " <- ".join(chain_of(call, stack.at, around.root))
    where = ", in a thread that the request waits for" if found.thread is not None else ""
    return f"{text} in {chain}{where}. {advice(Part(call, Spent()), around).text}"
