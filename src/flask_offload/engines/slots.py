"""A worker's table of slots: which of the jobs that it holds have really started.

Shared memory in a file, which a worker and its child processes have open. It outlives the worker,
but not the machine, so that the recovery of a dead worker's jobs can tell a crash from a job that
had not started.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

RECORD = struct.Struct("=qd")  # seq of the job, when it started (monotonic seconds; 0: not yet)


class Slots:
    """Which jobs a worker holds, and which of them have started. Shared with its children.

    A ticket is a place in the table; the worker gives one to each job that it submits. A child
    opens the same file, without `count`, and only ever calls `start`.
    """

    def __init__(self, path: Path, count: int | None = None) -> None:
        self.path = path
        self._free = list(range((count or 0) - 1, -1, -1))
        new = os.O_CREAT | os.O_EXCL if count is not None else 0
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | new, 0o600)
        try:
            # written in full: to store into a hole on a full disk would end the process (SIGBUS)
            empty = bytes((count or 0) * RECORD.size)
            while empty:
                empty = empty[os.write(descriptor, empty) :]
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)

    @property
    def free(self) -> int:
        """How many more jobs can be recorded."""
        return len(self._free)

    def take(self, seq: int) -> int:
        """Record a job that is about to be submitted; returns its ticket."""
        ticket = self._free.pop()
        RECORD.pack_into(self._memory, ticket * RECORD.size, seq, 0.0)
        return ticket

    def give_back(self, ticket: int) -> None:
        """Forget a job that has ended or was given back."""
        RECORD.pack_into(self._memory, ticket * RECORD.size, 0, 0.0)
        self._free.append(ticket)

    def start(self, ticket: int, seq: int) -> None:
        """Record that the job starts; called just before its first line."""
        RECORD.pack_into(self._memory, ticket * RECORD.size, seq, time.monotonic())

    def started_at(self, ticket: int) -> float | None:
        """When the ticket's job started (monotonic seconds); None if it has not."""
        return RECORD.unpack_from(self._memory, ticket * RECORD.size)[1] or None

    def close(self) -> None:
        """Remove the file; the children keep the memory that they share."""
        self.path.unlink(missing_ok=True)
        self._memory.close()


def read_started(path: Path) -> set[int] | None:
    """The jobs that had started, from a dead worker's table; None if it can't be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    usable = len(data) - len(data) % RECORD.size
    return {seq for seq, started in RECORD.iter_unpack(data[:usable]) if seq and started}
