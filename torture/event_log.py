"""The event log: one line for each thing that really happened, in one file, outside the database.

Each line is one write to a descriptor opened with O_APPEND, so that no process can lose or split
another's line, however it dies. Times are monotonic seconds, the same clock in all processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

VARIABLE = "EVENT_LOG"
"""The environment variable with the log's path."""


def note(kind: str, *words: object, path: str | None = None) -> None:
    """Write `kind time pid words…`, words without spaces.

    accepted JOB: enqueue() has returned. start JOB ATTEMPT, end JOB ATTEMPT: a task's first and
    last line. kill WHAT BEGAN ENDED PIDS: see `record_kill`.
    """
    line = " ".join([kind, f"{time.monotonic():.6f}", str(os.getpid()), *map(str, words)])
    where = path or os.environ[VARIABLE]
    descriptor = os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def record_kill(
    what: str, began: float, pids: Iterable[int], *, until: float = 0.0, path: str | None = None
) -> None:
    """Note that these processes were killed between `began` and now, or `until` if that is
    later: only jobs that they were at then may run again."""
    ended = max(time.monotonic(), until)
    note("kill", what, f"{began:.6f}", f"{ended:.6f}", ",".join(map(str, pids)), path=path)
