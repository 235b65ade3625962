"""The thread that reports slow requests and writes the statistics.

It is not the sampler's: a first report takes a tenth of a second, in which requests go on.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress
from weakref import WeakSet

from .profiler import Profiler
from .request_sample import RequestSample, clock

_WRITE_EVERY, _WRITE_REPORTS_AFTER = 5.0, 0.5
"""Seconds between two writes of statistics, and from a report until it is written."""
_LAST_WRITES = 5
"""Attempts to write at the end of the process."""

_log = logging.getLogger(__name__)


class Reporter:
    """One for the process. It runs from the first slow request, or the first write, on."""

    def __init__(self) -> None:
        self.profilers: WeakSet[Profiler] = WeakSet()
        self._writing = threading.Lock()
        # a process that is forked during a write would believe that it has the file locked itself
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork)
        self.reset()

    def reset(self) -> None:
        """Forget everything, in a forked child: it has neither the thread nor its requests."""
        for profiler in self.profilers:
            profiler.reset()
        self._writing = threading.Lock()
        self._queue: queue.SimpleQueue[RequestSample | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._write_at = 0.0
        self._is_stopping = False

    def put(self, request: RequestSample) -> None:
        """Report this request, which is over, soon."""
        self._queue.put(request)
        self._start()

    def write_if_due(self, now: float) -> None:
        """Have the thread write, if it is time to."""
        if now >= self._write_at and not self._is_stopping:
            self._write_at = now + _WRITE_EVERY
            self._queue.put(None)
            self._start()

    def seconds_until_write(self) -> float | None:
        """How long until the next write; None while there is nothing to write."""
        if any(profiler.has_unwritten for profiler in self.profilers):
            return max(self._write_at - clock(), 0.0)
        return None

    def stop(self) -> None:
        """Report and write what is left, and end the thread."""
        self._is_stopping = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout=2.0)
        else:
            self._run()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="flask-offload-reporter", daemon=True)
            with suppress(RuntimeError):  # the interpreter ends: stop() does it
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        write_at: float | None = None
        while True:
            try:
                wait = None if write_at is None else max(write_at - clock(), 0.0)
                request = self._queue.get(timeout=wait)
            except queue.Empty:
                request = None
            try:
                if request is not None:
                    request.profiler.add_report(request.report())
                    write_at = write_at or clock() + _WRITE_REPORTS_AFTER
                else:
                    write_at = None
                    self._write()
            except Exception:
                _log.exception("Flask-Offload's reporter failed; it continues")
            if self._is_stopping and self._queue.empty():
                break
        for _ in range(_LAST_WRITES):  # another process may have the file locked
            if self.seconds_until_write() is not None:
                self._write()

    def _write(self) -> None:
        with self._writing:
            for profiler in list(self.profilers):
                profiler.write()

    def _before_fork(self) -> None:
        self._writing.acquire()

    def _after_fork(self) -> None:
        self._writing.release()
