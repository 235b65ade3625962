"""Calls that end in time, whatever the network does.

Socket timeouts alone don't bound a call: a name that can't be resolved, a handshake of several
answers, and each retry add up. So the call runs in a thread of its own, and its caller waits no
longer than promised. A call that is late is left to its socket timeouts.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from flask_offload.errors import EngineUnavailable

T = TypeVar("T")

_all: weakref.WeakSet[Deadline] = weakref.WeakSet()


class Call(Generic[T]):
    """One call under way. is_abandoned: nobody waits for it any more."""

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.is_abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None


class Deadline:
    """Runs calls that must end within `seconds`.

    what: who is to blame when one is late, for the error's text.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self._what = what
        self._forget_threads()
        _all.add(self)

    def run(self, work: Callable[[Call[T]], T]) -> T:
        """Do the work; raises EngineUnavailable when it takes too long, and what it raises itself.

        While a call is overdue, further ones are refused at once: they would all wait for the same
        deaf host, each with a thread of the web server's.
        """
        if self._overdue:
            raise EngineUnavailable(
                f"{self._what} has not answered an earlier call yet: try again in a moment"
            )
        call: Call[T] = Call()
        name = "offload-call"
        threading.Thread(target=self._do, args=(call, work), name=name, daemon=True).start()
        if not call.is_done.wait(self.seconds) and self._abandon(call):
            raise EngineUnavailable(
                f"{self._what} has not answered within {self.seconds:g} s"
                " (OFFLOAD_ENQUEUE_TIMEOUT): is its host down, or the way to it cut?"
            )
        if call.error is not None:
            raise call.error
        value: T = call.value
        return value

    def _do(self, call: Call[T], work: Callable[[Call[T]], T]) -> None:
        try:
            call.value = work(call)
        except BaseException as error:
            call.error = error
        with self._lock:
            call.is_done.set()
            if call.is_abandoned:
                self._overdue -= 1

    def _abandon(self, call: Call[Any]) -> bool:
        """Give the call up, unless it is done this very moment."""
        with self._lock:
            if call.is_done.is_set():
                return False
            call.is_abandoned = True
            self._overdue += 1
            return True

    def _forget_threads(self) -> None:
        """At first, and in a forked child, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._overdue = 0


def _after_fork() -> None:
    for deadline in list(_all):
        deadline._forget_threads()


os.register_at_fork(after_in_child=_after_fork)
