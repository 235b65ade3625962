"""The thread that looks at slow requests. One for the process, however many apps there are.

A fast request costs an entry in a dictionary and one in a list; everything else happens here.
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
from .profiler import Spotter
from .request_sample import Watched, clock
from .sampling import outward, sample

_POLL = 0.025
"""Seconds between two rounds while no request is slow; less than FIRST_LOOK, so none is late."""
_IDLE_AFTER = 1.0
"""Seconds without a request until the thread sleeps."""
_LATE = 0.1
"""Seconds. A round that comes so much too late was kept from running by a long C function."""
_WRITE_EVERY, _WRITE_REPORTS_AFTER = 5.0, 0.5
"""Seconds between two writes of statistics, and from a report until it is written."""

_log = logging.getLogger(__name__)


class Watchdog:
    """Looks at the requests that `enter`ed until they `leave`, and tells about the slow ones.

    active: the requests that run, by thread; always the same dictionary.

    boundaries: the code whose calls are the outer ends of requests on a stack.
    """

    def __init__(self, boundaries: tuple[CodeType, ...]) -> None:
        self._boundaries = boundaries
        self.active: dict[int, Watched] = {}
        self._spotters: WeakSet[Spotter] = WeakSet()
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)
        atexit.register(self.stop)

    def _start_anew(self) -> None:
        # also in a forked child: neither the thread nor the requests of its parent exist there
        self.active.clear()
        self._slow: deque[Watched] = deque(maxlen=1_000)
        for spotter in self._spotters:
            spotter.start_anew()
        self.is_awake = False
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._idle_at = self._write_at = 0.0

    def know(self, spotter: Spotter) -> None:
        """From now on, write down what this app's requests have cost."""
        self._spotters.add(spotter)

    # --- called by requests -------------------------------------------------------------------

    def enter(self, watched: Watched) -> None:
        """Watch what this thread does from now on, on behalf of this request."""
        thread = get_ident()
        watched.since = clock()
        outer = self.active.get(thread)
        if outer is not watched:
            watched.outer = outer  # a request within a request: both are looked at
            self.active[thread] = watched
        if not self.is_awake:
            self._wake()

    def leave(self, watched: Watched) -> None:
        """No longer watch this thread for this request, but again for the one around it, if any."""
        watched.seconds += clock() - watched.since
        if watched.outer is None:
            self.active.pop(get_ident(), None)
        else:
            self.active[get_ident()] = watched.outer

    def end(self, watched: Watched) -> None:
        """The request is over, and there is more to say than that: the thread will say it."""
        watched.end()
        if watched.is_slow:
            self._slow.append(watched)

    def report(self, watched: Watched) -> SpotReport:
        """What was found about a request that is over."""
        with self._lock:
            return watched.report()

    def stop(self) -> None:
        """Write what there is to write, and end."""
        self._stopping.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _wake(self) -> None:
        with self._lock:
            self.is_awake = True
            self._bell.set()
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="flask-offload-watchdog", daemon=True
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
                _log.exception("Flask-Offload's watchdog failed; it goes on")
                wait = _POLL
            if wait is None:
                self._sleep()
                due = math.inf
            else:
                due = clock() + wait
                self._stopping.wait(wait)
        self._tell()
        self._write()

    def _round(self, now: float, late: float) -> float | None:
        """One round; returns the seconds until the next, None when there is nothing to do."""
        if self.active or self._slow:
            self._idle_at = now + _IDLE_AFTER
        with self._lock:
            wait = self._look(now, late)
        self._tell()
        if now >= self._write_at:
            self._write()
        return wait if now < self._idle_at else None

    def _look(self, now: float, late: float) -> float:
        wait = _POLL
        threads: dict[int, FrameType] = {}
        for thread, watched in self.active.copy().items():
            if any(each.look_at <= each.age(now) for each in outward(watched)):
                threads = threads or _frames_of_others()
                # it may have ended, and its thread gone on, before the frames were taken
                if self.active.get(thread) is watched:
                    sample(thread, watched, threads, self._boundaries, late)
            wait = min(wait, *(each.look_at - each.age(now) for each in outward(watched)))
        return max(wait, 0.001)

    def _sleep(self) -> None:
        self._bell.clear()
        self.is_awake = False
        if self.active or self._slow or self._stopping.is_set():
            self.is_awake = True  # a request came before it could see that nobody is awake
        else:
            unwritten = any(spotter.has_unwritten for spotter in self._spotters)
            self._bell.wait(max(self._write_at - clock(), 0.0) if unwritten else None)
            self.is_awake = True
        # stay up for a while: the request that rang may be over by now, and to be woken by each
        # of thousands would cost far more than these rounds
        self._idle_at = clock() + _IDLE_AFTER

    def _tell(self) -> None:
        while self._slow:
            watched = self._slow.popleft()
            watched.spotter.tell(self.report(watched))
            self._write_at = min(self._write_at, clock() + _WRITE_REPORTS_AFTER)

    def _write(self) -> None:
        self._write_at = clock() + _WRITE_EVERY
        for spotter in list(self._spotters):
            spotter.write()


def _frames_of_others() -> dict[int, FrameType]:
    """What the other threads are doing.

    Without our own frame: it would hold this dictionary, which holds it, and with it every local
    variable of every thread, until the garbage collector comes by.
    """
    threads = sys._current_frames()
    del threads[get_ident()]
    return threads
