"""How much processor time another thread has used, and how long it stood in line for one."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple


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


class Queued(NamedTuple):
    """How long a thread has stood in line for a processor, and how many times it got one."""

    seconds: float
    turns: int


def queued(number: int) -> Queued | None:
    """Seconds and turns of a thread, as `queued_seconds`."""
    try:
        fields = Path(f"/proc/self/task/{number}/schedstat").read_text().split()
        return Queued(int(fields[1]) / 1e9, int(fields[2]))
    except (OSError, ValueError, IndexError):
        return None


def queued_seconds(number: int) -> float | None:
    """Seconds for which a thread could have run but got no processor.

    Without it, a thread on a busy machine would seem to wait. It reads a file
    (https://docs.kernel.org/scheduler/sched-stats.html), so ask seldom.
    """
    found = queued(number)
    return found.seconds if found is not None else None
