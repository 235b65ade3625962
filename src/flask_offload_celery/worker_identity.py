"""A worker's place among the others: the id under which it claims jobs, and what it says of itself.

The main process of a Celery worker takes the seat before it forks its pool; the pool's processes
claim under the same id, and learn through shared memory that the worker is stopping.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any

DRAIN = b"\1"


class Seat:
    """queues: the only queues it serves; None: all. capacity: how many jobs at once."""

    def __init__(self, queues: frozenset[str] | None, capacity: int) -> None:
        self.id = f"c{os.getpid()}-{secrets.token_hex(4)}"
        self.queues = queues
        self.capacity = capacity
        self.pid = os.getpid()
        self._started_at = time.time()
        self._drain = mmap.mmap(-1, 1)

    def drain(self) -> None:
        """Tell all processes of the worker that it is stopping. Safe in a signal handler."""
        self._drain[:1] = DRAIN

    @property
    def is_draining(self) -> bool:
        """Whether the worker is stopping."""
        return self._drain[:1] == DRAIN

    def describe(self) -> str:
        """What other workers may read about this one, as JSON."""
        return json.dumps(
            {
                "host": host(),
                "pid": self.pid,
                "born": born(self.pid),
                "queues": None if self.queues is None else sorted(self.queues),
                "capacity": self.capacity,
                "started_at": self._started_at,
                "stopping": self.is_draining,
            }
        )


def host() -> str:
    """Where process ids mean something: this run of this machine, and this container of it."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(str(os.stat(path).st_ino) if "/ns/" in path else Path(path).read_text())
        except OSError:
            parts.append("")
    return ":".join(part.strip() for part in parts)


def born(pid: int) -> str:
    """When the process began, in the kernel's own measure; "" when it is gone, or can't be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def is_surely_dead(description: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that is there no more. A worker elsewhere can only
    be told by its silence."""
    if description["host"] != host() or not born(os.getpid()):
        return False
    return bool(born(description["pid"]) != description["born"])
