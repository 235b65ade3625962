"""Calls of servers whose callers wait no longer than OFFLOAD_ENQUEUE_TIMEOUT.

Socket timeouts end each read and each connect, but don't bound a call: the resolution of a name, a
handshake of several answers and a retry add up. So calls run in a few threads, which live on, and
a caller waits for the result for a limited time. A late call ends by its socket timeouts.

An executor's futures would do, at twice the price for each call (85 µs and not 45).
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from flask_offload.engine_api import log_event
from flask_offload.errors import EngineUnavailable

T = TypeVar("T")
THREADS: Final = 8
"""Calls at once. More of them wait for a thread, which counts as part of their time."""


class _Call:
    """One call. Who takes the only item of `start` begins or cancels it; who takes that of `end`
    decides whether it ended in time."""

    __slots__ = ("end", "error", "has_ended", "result", "start", "undo", "work")

    def __init__(self, work: Callable[[], Any], undo: Callable[[Any], object] | None) -> None:
        self.work = work
        self.undo = undo
        self.start, self.end = [True], [True]
        self.result: Any = None
        self.error: BaseException | None = None
        self.has_ended = _thread.allocate_lock()
        self.has_ended.acquire()

    def run(self) -> None:
        if not _take(self.start):
            return  # its caller has given up before
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error
        try:
            if not _take(self.end) and self.error is None and self.undo is not None:
                self.undo(self.result)
        except Exception as error:  # the thread serves other calls, too
            message = "what was done after OFFLOAD_ENQUEUE_TIMEOUT can't be undone: %s"
            log_event(logging.ERROR, "undo_failed", message, repr(error))
        finally:
            self.has_ended.release()


def _take(token: list[bool]) -> bool:
    """Only one of two threads gets it."""
    try:
        return token.pop()
    except IndexError:
        return False


class Deadline:
    """Runs calls that must end within `seconds`. server: its name in error messages."""

    def __init__(self, seconds: float, server: str) -> None:
        self._seconds = seconds
        self._server = server
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """A forked child has none of its parent's threads; the next call starts new ones."""
        self._lock = threading.Lock()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0
        self._overdue: list[_Call] = []

    def run(self, work: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
        """Do the work; raises what it raises, and EngineUnavailable when it takes too long.

        undo: called with the result of work that ended after its caller had got that error. While
        a call is overdue, further ones are refused at once: they would wait for the same server.
        """
        call = _Call(work, undo)
        with self._lock:
            if self._overdue:
                self._overdue = [late for late in self._overdue if late.has_ended.locked()]
                if self._overdue:
                    raise EngineUnavailable(
                        f"{self._server} has not answered an earlier call yet: try again in a"
                        " moment"
                    )
            self._under_way += 1
            if len(self._threads) < min(self._under_way, THREADS):
                name, arguments = f"offload-call-{len(self._threads) + 1}", (self._calls,)
                thread = threading.Thread(target=_serve, name=name, args=arguments, daemon=True)
                thread.start()
                self._threads.append(thread)
            self._calls.put(call)
        call.has_ended.acquire(timeout=self._seconds)
        is_late = _take(call.end)
        with self._lock:
            self._under_way -= 1
            if is_late and not _take(call.start):
                self._overdue.append(call)
        if is_late:
            raise EngineUnavailable(
                f"{self._server} has not answered within {self._seconds:g} s"
                " (OFFLOAD_ENQUEUE_TIMEOUT): is its host down, or the way to it cut?"
            )
        try:
            if call.error is not None:
                raise call.error
            result: T = call.result
            return result
        finally:
            del call  # the error's frames have it

    def close(self) -> None:
        """End the threads, and wait for late calls, for `seconds` at most: their connections may be
        closed next. The next call starts new threads."""
        with self._lock:
            threads, self._threads = self._threads, []
            for _ in threads:
                self._calls.put(None)
            self._calls = SimpleQueue()
        until = time.monotonic() + self._seconds
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # with its result and its error's frames
