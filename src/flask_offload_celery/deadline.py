"""Calls of servers whose callers wait no longer than OFFLOAD_ENQUEUE_TIMEOUT.

Socket timeouts end each read and each connect, but don't bound a call: the resolution of a name, a
handshake of several answers and a retry add up. So calls run in a few threads, which live on, and
a caller waits for the result for a limited time. A late call ends by its socket timeouts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from flask_offload.errors import EngineUnavailable

T = TypeVar("T")
THREADS: Final = 8
"""Calls at once. More of them wait for a thread, which counts as part of their time."""


class Deadline:
    """Runs calls that must end within `seconds`. server: its name in error messages."""

    def __init__(self, seconds: float, server: str) -> None:
        self._seconds = seconds
        self._server = server
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """A forked child has none of its parent's threads; the next call starts new ones."""
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._overdue: set[Future[Any]] = set()

    def run(self, work: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
        """Do the work; raises what it raises, and EngineUnavailable when it takes too long.

        undo: called with the result of work that ended after its caller had got that error. While
        a call is overdue, further ones are refused at once: they would wait for the same server.
        """
        with self._lock:
            if any(not future.done() for future in self._overdue):
                raise EngineUnavailable(
                    f"{self._server} has not answered an earlier call yet: try again in a moment"
                )
            self._overdue.clear()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(THREADS, "offload-call")
            future = self._executor.submit(work)
        wait([future], self._seconds)
        if future.done() and not future.cancelled():
            return future.result()
        with self._lock:
            if not future.cancel():
                self._overdue.add(future)
        if undo is not None:
            future.add_done_callback(lambda done: _undo(done, undo))
        raise EngineUnavailable(
            f"{self._server} has not answered within {self._seconds:g} s"
            " (OFFLOAD_ENQUEUE_TIMEOUT): is its host down, or the way to it cut?"
        )

    def close(self) -> None:
        """End the threads; those of late calls end with them. The next call starts new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _undo(late: Future[T], undo: Callable[[T], object]) -> None:
    if not late.cancelled() and late.exception() is None:
        undo(late.result())
