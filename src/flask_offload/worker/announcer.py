"""Signals about jobs whose process has ended, sent in a thread of their own: a slow receiver, such
as one that mails over a server that does not answer, holds up no other job."""

from __future__ import annotations

import mmap
import struct
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from ..engines.host import Host
from ..engines.run import ended_badly
from ..errors import JobTimeout
from ..jobs.attempt import Outcome
from .messages import Crashed, Ended, ResolveTimeout

Event = ResolveTimeout | Crashed | Ended


class SharedCount:
    """A number in memory that a process shares with those it forks later; what one has added is
    there although it was killed."""

    _FORM = struct.Struct("=Q")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._FORM.size)

    @property
    def value(self) -> int:
        """How often `add` was called, in any of the processes."""
        count: int = self._FORM.unpack_from(self._memory)[0]
        return count

    def add(self) -> None:
        """Add 1. One process at a time."""
        self._FORM.pack_into(self._memory, 0, self.value + 1)


class Announcer:
    """Sends the signals of these events in order.

    announced: counts the events Crashed and Ended that have been announced. wake: called when
    there is an outcome.
    """

    def __init__(self, host: Host, announced: SharedCount, wake: Callable[[], None]) -> None:
        self.outcomes: deque[Outcome] = deque()
        self._host = host
        self._announced = announced
        self._wake = wake
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, event: Event) -> None:
        """Announce it soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="offload-signals", daemon=True)
            self._thread.start()
        self._events.put(event)

    def close(self, timeout: float) -> None:
        """Announce what is left, within so many seconds."""
        if self._thread is not None:
            self._events.put(None)
            self._thread.join(timeout)

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            if isinstance(event, ResolveTimeout):
                self._resolve(event)
            else:
                event.announce(self._host.app)
                self._announced.add()

    def _resolve(self, event: ResolveTimeout) -> None:
        """Apply the task's retry policy, which sends the signal."""
        context = self._host.context(event.claim, lambda report: None)
        error = JobTimeout(event.message)
        self.outcomes.append(ended_badly(self._host, context, error, event.began))
        self._wake()
