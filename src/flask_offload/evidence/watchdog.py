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
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType

import apsw

from .queue_time import queue_seconds
from .sampling import outward, sample
from .spot_report import SpotReport
from .spot_store import Batch, write
from .spotter import route_name
from .watched import Watched, clock

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
    """Looks at the requests that `enter`ed until they `leave`, and takes in the `finish`ed.

    boundaries: the code whose calls are the outer ends of requests on a stack.
    """

    def __init__(self, boundaries: tuple[CodeType, ...]) -> None:
        self._boundaries = boundaries
        self._start_anew()
        os.register_at_fork(after_in_child=self._start_anew)
        atexit.register(self.stop)

    def _start_anew(self) -> None:
        # also in a forked child: neither the thread nor the requests of its parent exist there
        self._active: dict[int, Watched] = {}
        self._finished: deque[Watched] = deque(maxlen=50_000)
        self._batches: dict[Path, Batch] = {}
        self._unwritable: set[Path] = set()
        self._awake = False
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._idle_at = self._write_at = 0.0

    # --- called by requests -------------------------------------------------------------------

    def enter(self, watched: Watched) -> None:
        """Watch what this thread does from now on, on behalf of this request."""
        watched.thread = get_ident()
        watched.since = clock()
        outer = self._active.setdefault(watched.thread, watched)
        if outer is not watched:  # a request within a request: both are looked at
            watched.outer = outer
            self._active[watched.thread] = watched
        if not self._awake:
            self._wake()

    def leave(self, watched: Watched) -> None:
        """No longer watch this thread for this request."""
        watched.seconds += clock() - watched.since
        if watched.outer is None:
            self._active.pop(watched.thread, None)
        else:
            self._active[watched.thread] = watched.outer
            watched.outer = None

    def finish(self, watched: Watched) -> None:
        """The request is over: what is to be said about it is said later, by the thread."""
        watched.end()
        self._finished.append(watched)

    def report(self, watched: Watched) -> SpotReport:
        """What was found about a gated request that is over, at once."""
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
            self._awake = True
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
        self._take_in()
        self._write()

    def _round(self, now: float, late: float) -> float | None:
        """One round; returns the seconds until the next, None when there is nothing to do."""
        if self._active or self._finished:
            self._idle_at = now + _IDLE_AFTER
        with self._lock:
            wait = self._look(now, late)
        self._take_in()
        if self._batches and now >= self._write_at:
            self._write()
        return wait if now < self._idle_at else None

    def _look(self, now: float, late: float) -> float:
        wait = _POLL
        threads: dict[int, FrameType] = {}
        for thread, watched in self._active.copy().items():
            if any(each.look_at <= each.age(now) for each in outward(watched)):
                threads = threads or sys._current_frames()
                # it may have ended, and its thread gone on, before the frames were taken
                if self._active.get(thread) is watched:
                    sample(watched, threads, self._boundaries, clock(), late)
            wait = min(wait, *(each.look_at - each.age(now) for each in outward(watched)))
        return max(wait, 0.001)

    def _sleep(self) -> None:
        self._bell.clear()
        self._awake = False
        if self._active or self._finished or self._stopping.is_set():
            self._awake = True  # a request came before it could see that nobody is awake
        else:
            self._bell.wait(max(self._write_at - clock(), 0.0) if self._batches else None)
            self._awake = True

    def _take_in(self) -> None:
        while self._finished:
            watched = self._finished.popleft()
            spotter = watched.spotter
            is_slow = watched.seconds >= spotter.above and not watched.is_gated
            batch = None
            if spotter.store is not None:
                batch = self._batch(spotter.store)
                batch.add_request(
                    route_name(watched.rule, watched.method),
                    watched.seconds,
                    int(watched.length) if (watched.length or "").isdecimal() else None,
                    queue_seconds(*watched.queue) if watched.queue else None,
                )
            if is_slow:
                found = watched.report()
                spotter.tell(found)
                if batch is not None:
                    batch.add_report(found)
                    self._write_at = min(self._write_at, clock() + _WRITE_REPORTS_AFTER)

    def _batch(self, path: Path) -> Batch:
        if not self._batches:
            self._write_at = clock() + _WRITE_EVERY
        return self._batches.setdefault(path, Batch())

    def _write(self) -> None:
        self._write_at = clock() + _WRITE_EVERY
        for path, batch in list(self._batches.items()):
            try:
                write(path, batch)
            except apsw.BusyError:
                continue  # another process writes: next time
            except (apsw.Error, OSError) as error:
                if path not in self._unwritable:
                    _log.warning("no evidence is kept: %s can't be written: %s", path, error)
                self._unwritable.add(path)
            else:
                self._unwritable.discard(path)
            del self._batches[path]
