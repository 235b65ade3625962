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
from threading import get_ident
from types import CodeType, FrameType
from weakref import WeakSet

from .findings import SpotReport
from .profiler import Profiler
from .request_sample import RequestSample, clock
from .sampling import outward, sample

_POLL = 0.025
"""Seconds between two rounds while no request is slow; less than FIRST_SAMPLE, so none is late."""
_IDLE_AFTER = 1.0
"""Seconds without a request until the thread sleeps."""
_LATE = 0.1
"""Seconds. A round that is later than this was blocked by a long C function."""
_WRITE_EVERY, _WRITE_REPORTS_AFTER = 5.0, 0.5
"""Seconds between two writes of statistics, and from a report until it is written."""

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
            if any(each.next_sample <= each.age(now) for each in outward(request)):
                threads = threads or _frames_of_others()
                # it may have ended, and its thread gone on, before the frames were taken
                if self.active.get(thread) is request:
                    sample(thread, request, threads, self._boundaries, late)
            wait = min(wait, *(each.next_sample - each.age(now) for each in outward(request)))
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
