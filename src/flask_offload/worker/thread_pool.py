"""A pool of threads of this process."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Mapping, Sequence

from ..engines.host import Host
from ..engines.slots import Slots
from ..jobs.attempt import Claim
from ..jobs.new_job import ALONE, ASYNC, THREADS
from .executor import Executor
from .pool import Events, Pool

FLUSH_EVERY = 0.25
"""Seconds between two reports of progress that a running job has not reported itself."""


class ThreadPool(Pool):
    """Runs jobs in threads of this process, which can't be stopped by force."""

    def __init__(self, host: Host, slots: Slots) -> None:
        super().__init__()
        self._slots = slots
        self._threads = host.config.worker_threads
        self._coroutines = host.config.async_concurrency
        self._held: dict[int, Claim] = {}
        self._waker, self._wake_end = socket.socketpair()
        for end in (self._waker, self._wake_end):
            end.setblocking(False)
        self._executor = Executor(
            host,
            threads=self._threads,
            note_start=slots.start,
            wake=self.wake,
            give_up=lambda: None,  # the web process must live; the log reports it
        )

    @staticmethod
    def places(host: Host) -> int:
        """How many jobs it may hold at once."""
        return host.config.worker_threads + host.config.async_concurrency + len(ALONE)

    def wake(self) -> None:
        """Make `fileno` readable. May be called from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._wake_end.send(b"!")

    def fileno(self) -> int:
        """Readable when a thread has something to report."""
        return self._waker.fileno()

    # --- for the dispatcher ---

    def capacity(self) -> Mapping[str, int]:
        """How many more jobs each lane takes."""
        held = Counter(claim.lane for claim in self._held.values())
        free = max(0, self._threads - held.total() + held[ASYNC])
        # what should run alone has no process to itself here: one at a time, by the common threads
        alone = {lane: int(free > 0 and not held[lane]) for lane in ALONE}
        return {**alone, THREADS: free, ASYNC: self._coroutines - held[ASYNC]}

    def submit(self, claims: Sequence[Claim]) -> None:
        """Run these."""
        for claim in claims:
            self._take_slot(claim)
            self._held[claim.seq] = claim
        self._executor.submit(list(claims))

    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        """Ask it to stop; threads can't be stopped by force."""
        self._executor.cancel(seq, attempt)

    @property
    def holds(self) -> int:
        """How many jobs it has that are not finished."""
        return len(self._held)

    # --- for the loop ---

    def poll(self) -> tuple[Events, float]:
        """What the threads have reported."""
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)
        executor, events = self._executor, self._events
        is_busy = executor.flush()
        while executor.outcomes:
            events.outcomes.append(executor.outcomes.popleft())
        while executor.reports:
            events.reports.append(executor.reports.popleft())
        while executor.unknown:
            events.unknown += self._forget([executor.unknown.popleft()])
        for outcome in events.outcomes:
            self._hold_slot(self._held.pop(outcome.seq))
        return self._take_events(), FLUSH_EVERY if is_busy else 1.0

    def drain(self) -> None:
        """Give back what no thread has begun; end what can be resumed."""
        self._executor.drain()
        self._events.unstarted += self._forget(self._executor.recall())

    def stop(self) -> None:
        """End the threads that are idle."""
        self._executor.stop(timeout=0.5)
        self._waker.close()
        self._wake_end.close()

    def _forget(self, seqs: Sequence[int]) -> list[Claim]:
        """Jobs that never started."""
        return self._release(self._held.pop(seq) for seq in seqs if seq in self._held)
