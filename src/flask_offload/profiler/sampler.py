"""The thread that samples slow requests: one for the process, however many apps there are.

A fast request costs an entry in a dictionary and one in a list. This thread does nothing but
sample; what it finds goes to the reporter's thread.
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
from threading import get_ident
from types import CodeType, FrameType
from typing import NamedTuple

from .call_tree import CallTree, Spent
from .profiler import Profiler
from .reporter import Reporter
from .request_sample import RequestSample, clock
from .spot_report import SpotReport
from .stacks import follow_async, frames_within, read_stack
from .thread_clock import (
    InterpreterWait,
    cpu_of_threads,
    cpu_seconds,
    native_id,
    queued_seconds,
)

_POLL = 0.010
"""Seconds between two rounds while no request is slow; less than FIRST_SAMPLE, so none is late."""
_IDLE_AFTER = 1.0
"""Seconds without a request until the thread sleeps."""
_COMPUTES_FROM = 0.1
"""The share of such a time that a thread must have computed to be the one that held the
interpreter; not more, because a busy machine gives it a part of a processor only."""
_QUEUED_EVERY = _USED_EVERY = 0.1
"""Seconds from one look at how long a thread stood in line, or has computed, to the next."""

SHORTEST, LONGEST = 0.008, 1.0
"""Seconds between two samples of a request: a fiftieth of its age, within these bounds."""
MAX_SAMPLES = 2000
"""Samples of one request; enough for more than half an hour."""

_log = logging.getLogger(__name__)


class Sampler:
    """Samples the requests between `enter` and `leave`, and has the slow ones reported.

    active: the requests that run, by thread; always the same dictionary.
    boundaries: the code whose calls are the outer ends of requests on a stack.
    """

    def __init__(self, boundaries: tuple[CodeType, ...]) -> None:
        self._boundaries = boundaries
        self.active: dict[int, RequestSample] = {}
        self.reporter: Reporter = Reporter()
        self._reset()
        os.register_at_fork(after_in_child=self._reset)
        atexit.register(self.stop)

    def _reset(self) -> None:
        # also in a forked child, which has neither the thread nor the requests of its parent
        self.active.clear()
        self._slow: deque[RequestSample] = deque(maxlen=1_000)
        self.reporter.reset()
        self.is_awake: bool = False
        self._wake_up = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._idle_at = 0.0
        self._woken: float | None = None
        self._used: dict[int, float] = {}
        self._use_at = 0.0
        self._has_sampled = False

    def add_profiler(self, profiler: Profiler) -> None:
        """Write the statistics of this app from now on."""
        self.reporter.profilers.add(profiler)

    # --- called by requests -------------------------------------------------------------------

    def enter(self, request: RequestSample) -> None:
        """Count this thread's time for this request from now on."""
        thread = get_ident()
        request.since = clock()
        outer = self.active.get(thread)
        if outer is not request:
            request.outer = outer  # a request within a request: both are sampled
            request.is_kept = outer is not None or request.is_kept
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
        """The request is over; it is reported if it was slow."""
        request.end()
        if request.is_slow or request.settled is not None:
            self._slow.append(request)

    def sample_if_overdue(self, frame: FrameType) -> None:
        """Sample this thread's request where it is, unless the sampler's thread has.

        Of many short calls each releases the interpreter, but takes it again before another thread
        has woken up, and none of them is long enough for that thread to ask for it (after 5 ms).
        """
        thread = get_ident()
        request = self.active.get(thread)
        if request is None or request.age(clock()) < request.next_sample + _POLL:
            return
        if self._lock.acquire(blocking=False):
            request.is_kept = True
            try:
                _sample(thread, request, {thread: frame}, self._boundaries, None)
            finally:
                self._lock.release()

    def report(self, request: RequestSample) -> SpotReport:
        """The report of a request that is over, once the sampler has had its turn."""
        if request.settled is not None and self.is_awake:
            request.settled.wait(1.0)
        with self._lock:  # a sample of it may be in the making
            pass
        return request.report()

    def stop(self) -> None:
        """Report and write what is left, and end the threads."""
        self._stopping.set()
        self._wake_up.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        self.reporter.stop()

    def _wake(self) -> None:
        with self._lock:
            self.is_awake = True
            # the request may hold the interpreter before the thread has run for the first time
            self._used = cpu_of_threads()
            self._woken = clock()
            self._wake_up.set()
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="flask-offload-sampler", daemon=True
                )
                self._thread.start()

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        waited = InterpreterWait()
        while not self._stopping.is_set():
            now = clock()
            waited.end(now, self._woken)
            self._woken = None
            goes_on = True
            try:
                goes_on = self._round(now, waited)
            except Exception:
                _log.exception("Flask-Offload's sampler failed; it continues")
                waited.begin(now, now + _POLL, is_idle=True)
            if goes_on:
                self._stopping.wait(max(waited.due - clock(), 0.001))
            else:
                self._sleep()
        waited.close()
        self._pass_on()

    def _round(self, now: float, waited: InterpreterWait) -> bool:
        """Sample what is due, and begin the wait for the next round; False: there need be none."""
        if self.active or self._slow:
            self._idle_at = now + _IDLE_AFTER
        with self._lock:
            wait = self._sample_due(now, waited)
        # from here on a request may take the interpreter and keep it
        goes_on = now < self._idle_at
        due = now + wait if goes_on else math.inf
        waited.begin(now, due, is_idle=not self._has_sampled)
        self._pass_on()
        self.reporter.write_if_due(now)
        return goes_on

    def _sample_due(self, now: float, waited: InterpreterWait) -> float:
        wait = _POLL
        self._has_sampled = False
        threads: dict[int, FrameType] = {}
        for thread, request in self.active.copy().items():
            if any(each.next_sample <= each.age(now) for each in _outward(request)):
                self._has_sampled = True
                threads = threads or _frames_of_others()
                # it may have ended, and its thread gone on, before the frames were taken; one that
                # goes on from here is not used for another request
                request.is_kept = True
                if self.active.get(thread) is request:
                    hold = _Hold(waited, self._used)
                    _sample(thread, request, threads, self._boundaries, hold)
            wait = min(wait, *(each.next_sample - each.age(now) for each in _outward(request)))
        if wait >= _POLL and now >= self._use_at:
            self._used, self._use_at = cpu_of_threads(), now + _USED_EVERY
        return max(wait, 0.001)

    def _sleep(self) -> None:
        self._wake_up.clear()
        self.is_awake = False
        if self.active or self._slow or self._stopping.is_set():
            self.is_awake = True  # a request came before it could see that the thread sleeps
        else:
            self._wake_up.wait(self.reporter.seconds_until_write())
            self.is_awake = True
        # stay awake for a while: the request that woke it may be over by now, and waking up for
        # each of thousands of requests would cost far more than these rounds
        self._idle_at = clock() + _IDLE_AFTER

    def _pass_on(self) -> None:
        """Give the requests that are over to the reporter."""
        while self._slow:
            request = self._slow.popleft()
            if request.settled is not None:
                request.settled.set()
            if request.is_slow:
                self.reporter.put(request)


class _Hold(NamedTuple):
    """Whether a request's thread held the interpreter until now.

    waited: how the sampler waited for it. used: processor time of all threads, before that, by the
    system's number.
    """

    waited: InterpreterWait
    used: dict[int, float]

    def seconds(self, request: RequestSample, share: float | None) -> float:
        """Seconds for which its thread, which used this share of a processor, has held it."""
        own = request.number
        if not self.waited.is_late or own is None:
            return 0.0
        if share is None:
            used = cpu_of_threads()
            computed = {each: used[each] - self.used.get(each, 0.0) for each in used}
        else:
            computed = {own: share * self.waited.late}
        held = self.waited.held()  # meanwhile, the request may end
        if [each for each in computed if computed[each] >= _COMPUTES_FROM * held] != [own]:
            return 0.0
        # between two statements, other code has run
        return held if request.log is None else min(held, clock() - request.log.ended)


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
    hold: _Hold | None,
) -> None:
    """Add a sample to this request, and to those around it, as far as they are due.

    threads: the frames that all threads are in. boundaries: the code whose calls are the outer
    ends of requests.
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
            _add(request, located, executing, age, hold)


def _add(
    request: RequestSample,
    frames: list[FrameType],
    executing: int | None,
    age: float,
    hold: _Hold | None,
) -> None:
    if request.tree is None:
        request.tree = CallTree()
    stack = read_stack(frames, request.profiler.user_code)
    gap = max(age - request.last_age, 0.0)
    seen = min(gap, request.reach)
    share = _processor_share(request, executing, gap)
    held_for = min(hold.seconds(request, share), gap - seen) if hold and gap > seen else 0.0
    rest = gap - seen - held_for
    request.tree.add(
        stack,
        _spent(seen, share),
        _spent(held_for, 1.0 if share is None else share) if held_for > 0 else None,
        _spent(rest, share) if rest > 0 else None,
    )
    request.note_route()
    request.last_age = age
    request.pause = min(max(age / 50, SHORTEST), LONGEST)
    # from when it was due, so that what a sample costs does not come on top of the pause
    request.next_sample = max(request.next_sample + request.pause, age + request.pause / 4)
    if request.tree.samples >= MAX_SAMPLES:
        request.next_sample = math.inf


def _processor_share(request: RequestSample, executing: int | None, gap: float) -> float | None:
    """Which share of a processor it used since the last sample; None when unknown."""
    if executing is None:
        request.last_thread = None
        return 0.0  # an async view that waits
    if request.last_thread != executing:
        request.last_thread = executing
        request.number = native_id(executing)
        request.last_cpu = request.last_queued = None
    if request.number is None:
        return None
    before, request.last_cpu = request.last_cpu, cpu_seconds(request.number)
    if before is None or request.last_cpu is None or gap <= 0:
        return None
    used = request.last_cpu - before
    if used < gap / 2 and request.queued_at <= request.last_age + gap:
        # a thread that waits leaves the interpreter free, so that reading a file costs little
        stood = queued_seconds(request.number)
        if stood is not None and request.last_queued is not None:
            used += stood - request.last_queued
        request.last_queued = stood
        request.queued_at = request.last_age + gap + _QUEUED_EVERY
    return min(used / gap, 1.0)


def _spent(seconds: float, share: float | None) -> Spent:
    if share is None:
        return Spent(seconds)
    return Spent(seconds, seconds * share, seconds)
