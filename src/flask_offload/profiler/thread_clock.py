"""How much processor time another thread has used, and how long it stood in line for one."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

if sys.platform == "linux":
    import resource

LATE = 0.03
"""Seconds. A wait for the interpreter that is shorter is no reason to look further."""
_READ_EVERY = 0.1
"""Seconds between two looks at how long the sampler's own thread stood in line, while requests are
slow: each lets go of the interpreter."""
_FEWEST, _MOST = 0.5, 1.1
"""How many times a thread blocks for each switch interval while one call holds the interpreter."""
_ENOUGH = 3
"""Switch intervals from which on such a number says something."""


def native_id(ident: int) -> int | None:
    """The system's number of a thread; None when the thread is not known."""
    thread = next((each for each in threading.enumerate() if each.ident == ident), None)
    # the main thread of a forked process still has its parent's id (Python 3.11)
    if thread is threading.main_thread():
        return os.getpid()
    return thread.native_id if thread is not None else None


def cpu_seconds(number: int) -> float | None:
    """Seconds of processor time that a thread has used. None where the system does not say.

    It never releases Python's interpreter lock: a file would, and then a sample of a thread that
    computes would take several times 5 ms. The clock's id follows from the thread's number
    (https://man7.org/linux/man-pages/man2/clock_getres.2.html), so that a thread that has ended is
    an error and not undefined behaviour, as `pthread_getcpuclockid` has it.
    """
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~number << 3) | 6)
    except OSError:
        return None


def cpu_of_threads() -> dict[int, float]:
    """Seconds of processor time that each thread has used, by the system's number of it."""
    numbers = [native_id(thread.ident) for thread in threading.enumerate() if thread.ident]
    return {number: used for number in numbers if number and (used := cpu_seconds(number))}


def queued_seconds(number: int) -> float | None:
    """Seconds for which a thread could have run but got no processor.

    Without it, a thread on a busy machine would seem to wait. It reads a file
    (https://docs.kernel.org/scheduler/sched-stats.html), so ask seldom.
    """
    try:
        return _seconds_queued(Path(f"/proc/self/task/{number}/schedstat").read_bytes())
    except (OSError, ValueError, IndexError):
        return None


def _seconds_queued(schedstat: bytes) -> float:
    return int(schedstat.split()[1]) / 1e9


class InterpreterWait:
    """Proves that another thread held Python's interpreter, without a break, while this one waited.

    A thread that waits for the interpreter asks for it every switch interval, 5 ms, and is woken
    each time that it is released, too late to get it when the other one takes it again at once. So
    it blocks once for each interval while one call holds the interpreter, and much more often when
    many short ones do. A thread that the system does not run blocks less often. Linux only.
    """

    def __init__(self) -> None:
        self._schedstat = -1
        with suppress(OSError):
            path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
            self._schedstat = os.open(path, os.O_RDONLY)
        self._queued: float | None = 0.0
        self._read_at = 0.0
        self._blocked = 0
        self._blocked_before = 0
        self.due: float = 0.0
        self.late: float = 0.0
        self._held: float | None = None

    def begin(self, now: float, due: float, *, is_idle: bool) -> None:
        """This thread waits from now on, and wants the interpreter again at `due`.

        is_idle: no request is slow, so that it does no harm to let go of the interpreter.
        """
        self.due = due
        self._blocked_before = _times_blocked()
        if is_idle or now >= self._read_at:
            self._read_at = now + _READ_EVERY
            self._queued = self._seconds_queued()

    def end(self, now: float, due: float | None = None) -> None:
        """It has the interpreter again. due: if it is another one than that of `begin`."""
        self.late = now - (self.due if due is None else due)
        self._blocked = _times_blocked() - self._blocked_before
        self._held = None if self.is_late else 0.0

    @property
    def is_late(self) -> bool:
        """Whether `held` has something to prove."""
        return self.late >= LATE

    def held(self) -> float:
        """Seconds until `end` for which another thread held the interpreter; 0 if not proven."""
        if self._held is None:
            self._held = self.late if self._is_proven() else 0.0
        return self._held

    def close(self) -> None:
        """The thread ends."""
        if self._schedstat >= 0:
            os.close(self._schedstat)

    def _is_proven(self) -> bool:
        queued = self._seconds_queued()  # reads a file: the sample is taken before
        if queued is None or self._queued is None or not self._blocked:
            return False
        waited = self.late - (queued - self._queued)
        times = waited / sys.getswitchinterval()
        # one more for the wait before; and a timer may be late, but never early
        return times >= _ENOUGH and _FEWEST * times <= self._blocked - 1 <= _MOST * times + 1

    def _seconds_queued(self) -> float | None:
        try:
            return _seconds_queued(os.pread(self._schedstat, 100, 0))
        except (OSError, ValueError, IndexError):
            return None


def _times_blocked() -> int:
    """How many times this thread has waited for something; unlike a file, it keeps the lock."""
    if sys.platform != "linux":
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
