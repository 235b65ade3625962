"""The thread that samples slow requests: one for the process, however many apps there are.

A fast request costs an entry in a dictionary and one in a list; everything else runs here.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType
from weakref import WeakSet

from .call_tree import CallTree, Spent
from .findings import SpotReport
from .profiler import Profiler
from .request_sample import RequestSample, clock
from .stacks import follow_async, frames_within, read_stack

_POLL = 0.025
"""Seconds between two rounds while no request is slow; less than FIRST_SAMPLE, so none is late."""
_IDLE_AFTER = 1.0
"""Seconds without a request until the thread sleeps."""
_LATE = 0.1
"""Seconds. A round that is later than this was blocked by a long C function."""
_WRITE_EVERY, _WRITE_REPORTS_AFTER = 5.0, 0.5
"""Seconds between two writes of statistics, and from a report until it is written."""

SHORTEST, LONGEST = 0.010, 1.0
"""Seconds between two samples of a request: a fiftieth of its age, within these bounds."""
MAX_SAMPLES = 2000
"""Samples of one request; enough for more than half an hour."""

_log = logging.getLogger(__name__)


class Sampler:
    """Samples the requests between `enter` and `leave`, and reports the slow ones.

    active: the requests that run, by thread; always the same dictionary.
    boundaries: the code whose calls are the outer ends of requests on a stack.
    """

    def __init__(self, boundaries: tuple[CodeType, ...]) -> None:
        self._boundaries = boundaries
        self.active: dict[int, RequestSample] = {}
        self._profilers: WeakSet[Profiler] = WeakSet()
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.stop)

    def _reset(self) -> None:
        # also in a forked child, which has neither the thread nor the requests of its parent
        self.active.clear()
        self._slow: deque[RequestSample] = deque(maxlen=1_000)
        for profiler in self._profilers:
            profiler.reset()
        self.is_awake = False
        self._wake_up = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._idle_at = self._write_at = 0.0

    def add_profiler(self, profiler: Profiler) -> None:
        """Write the statistics of this app from now on."""
        self._profilers.add(profiler)

    # --- called by requests -------------------------------------------------------------------

    def enter(self, request: RequestSample) -> None:
        """Count this thread's time for this request from now on."""
        thread = get_ident()
        request.since = clock()
        outer = self.active.get(thread)
        if outer is not request:
            request.outer = outer  # a request within a request: both are sampled
            self.active[thread] = request
        if not self.is_awake:
            self._wake()

    def leave(self, request: RequestSample) -> None:
        """Stop counting this thread's time for this request; resume the one around it, if any."""
        request.seconds += clock() - request.since
        if request.outer is None:
            self.active.pop(get_ident(), None)
        else:
            self.active[get_ident()] = request.outer

    def end(self, request: RequestSample) -> None:
        """The request is over; the thread reports it if it was slow."""
        request.end()
        if request.is_slow:
            self._slow.append(request)

    def report(self, request: RequestSample) -> SpotReport:
        """The report of a request that is over."""
        with self._lock:
            return request.report()

    def stop(self) -> None:
        """Write what is unwritten, and end the thread."""
        self._stopping.set()
        self._wake_up.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _wake(self) -> None:
        with self._lock:
            self.is_awake = True
            self._wake_up.set()
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="flask-offload-sampler", daemon=True
                )
                self._thread.start()

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        due = math.inf
        while not self._stopping.is_set():
            now = clock()
            late = now - due if now - due > _LATE else 0.0
            try:
                wait = self._round(now, late)
            except Exception:
                _log.exception("Flask-Offload's sampler failed; it continues")
                wait = _POLL
            if wait is None:
                self._sleep()
                due = math.inf
            else:
                due = clock() + wait
                self._stopping.wait(wait)
        self._add_reports()
        self._write()

    def _round(self, now: float, late: float) -> float | None:
        """One round; returns the seconds until the next, None when there is nothing to do."""
        if self.active or self._slow:
            self._idle_at = now + _IDLE_AFTER
        with self._lock:
            wait = self._sample_due(now, late)
        self._add_reports()
        if now >= self._write_at:
            self._write()
        return wait if now < self._idle_at else None

    def _sample_due(self, now: float, late: float) -> float:
        wait = _POLL
        threads: dict[int, FrameType] = {}
        for thread, request in self.active.copy().items():
            if any(each.next_sample <= each.age(now) for each in _outward(request)):
                threads = threads or _frames_of_others()
                # it may have ended, and its thread gone on, before the frames were taken
                if self.active.get(thread) is request:
                    _sample(thread, request, threads, self._boundaries, late)
            wait = min(wait, *(each.next_sample - each.age(now) for each in _outward(request)))
        return max(wait, 0.001)

    def _sleep(self) -> None:
        self._wake_up.clear()
        self.is_awake = False
        if self.active or self._slow or self._stopping.is_set():
            self.is_awake = True  # a request came before it could see that the thread sleeps
        else:
            unwritten = any(profiler.has_unwritten for profiler in self._profilers)
            self._wake_up.wait(max(self._write_at - clock(), 0.0) if unwritten else None)
            self.is_awake = True
        # stay awake for a while: the request that woke it may be over by now, and waking up for
        # each of thousands of requests would cost far more than these rounds
        self._idle_at = clock() + _IDLE_AFTER

    def _add_reports(self) -> None:
        while self._slow:
            request = self._slow.popleft()
            request.profiler.add_report(self.report(request))
            self._write_at = min(self._write_at, clock() + _WRITE_REPORTS_AFTER)

    def _write(self) -> None:
        self._write_at = clock() + _WRITE_EVERY
        for profiler in list(self._profilers):
            profiler.write()


def _frames_of_others() -> dict[int, FrameType]:
    """The frames of the other threads.

    Without this thread's own: it would form a cycle with the dictionary and keep every local
    variable of every thread alive until the next garbage collection.
    """
    threads = sys._current_frames()
    del threads[get_ident()]
    return threads


def _outward(request: RequestSample | None) -> Iterator[RequestSample]:
    """This request, and those within which it runs in the same thread."""
    while request is not None:
        yield request
        request = request.outer


def _sample(
    thread: int,
    innermost: RequestSample,
    threads: Mapping[int, FrameType],
    boundaries: tuple[CodeType, ...],
    late: float,
) -> None:
    """Add a sample to this request, and to those around it, as far as they are due.

    threads: the frames that all threads are in. boundaries: the code whose calls are the outer
    ends of requests. late: seconds by which this sample is too late.
    """
    now = clock()
    top = threads.get(thread)
    frames: list[FrameType] = []
    for request in _outward(innermost):
        within: list[FrameType] = []
        if top is not None:
            within, top = frames_within(top, boundaries)
        frames = within + frames  # what the outer request sees includes the inner one
        age = request.age(now)
        if age >= request.next_sample:
            located, executing = follow_async(frames, thread, threads)
            _add(request, located, executing, age, late)


def _add(
    request: RequestSample, frames: list[FrameType], executing: int | None, age: float, late: float
) -> None:
    if request.tree is None:
        request.tree = CallTree()
    gap = max(age - request.last_age, 0.0)
    late = min(late, gap)
    cpu = thread_seconds(executing) if executing is not None else 0.0
    share = _processor_share(request, executing, cpu, gap, late)
    request.tree.add(
        read_stack(frames, request.profiler.user_code),
        between=_spent(gap - late, share),
        late=_spent(late, share),
    )
    request.note_route()
    request.last_age, request.last_thread, request.last_cpu = age, executing, cpu
    pause = min(max(age / 50, SHORTEST), LONGEST)
    request.next_sample = age + pause if request.tree.samples < MAX_SAMPLES else float("inf")


def _processor_share(
    request: RequestSample, executing: int | None, cpu: float | None, gap: float, late: float
) -> float | None:
    """Which share of a processor it used since the last sample; None when unknown."""
    if executing is None:
        return 0.0  # an async view that waits
    if cpu is None or gap <= 0:
        return None
    if request.last_thread == executing and request.last_cpu is not None:
        return min((cpu - request.last_cpu) / gap, 1.0)
    if late:
        return min(cpu / gap, 1.0)  # the first sample: at most all that the thread ever used
    return None


def _spent(seconds: float, share: float | None) -> Spent:
    if share is None:
        return Spent(seconds)
    return Spent(seconds, seconds * share, seconds)


def thread_seconds(ident: int) -> float | None:
    """Seconds for which a thread ran or was runnable.

    None where the system does not report it. Linux has both parts in a thread's schedstat
    (https://docs.kernel.org/scheduler/sched-stats.html). Without the second, a thread on a busy
    machine would seem to wait.
    """
    thread = next((each for each in threading.enumerate() if each.ident == ident), None)
    # the main thread of a forked process still has its parent's id (Python 3.11)
    number = os.getpid() if thread is threading.main_thread() else thread and thread.native_id
    try:
        on_cpu, in_line, _ = Path(f"/proc/self/task/{number}/schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(on_cpu) + int(in_line)) / 1e9
