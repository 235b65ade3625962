"""The id under which a worker claims jobs, and its description for other workers.

The main process of a Celery worker creates its identity before it forks the pool. The pool's
processes claim under the same id, and see in shared memory that the worker is stopping.
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


class WorkerIdentity:
    """queues: the queues that it serves; None: all. capacity: how many jobs at once."""

    def __init__(self, queues: frozenset[str] | None, capacity: int) -> None:
        self.id = f"c{os.getpid()}-{secrets.token_hex(4)}"
        self.queues = queues
        self.capacity = capacity
        self.pid = os.getpid()
        self._started_at = time.time()
        self._drain = mmap.mmap(-1, 1)

    def drain(self) -> None:
        """Set `is_draining` in all processes of the worker. Safe in a signal handler."""
        self._drain[:1] = DRAIN

    @property
    def is_draining(self) -> bool:
        """Whether the worker is stopping."""
        return self._drain[:1] == DRAIN

    def describe(self) -> str:
        """The description of this worker in the store, as JSON."""
        return json.dumps(
            {
                "host": host(),
                "pid": self.pid,
                "born": start_time(self.pid),
                "queues": None if self.queues is None else sorted(self.queues),
                "capacity": self.capacity,
                "started_at": self._started_at,
                "stopping": self.is_draining,
            }
        )


def host() -> str:
    """Identifies a process id namespace: the machine since its last boot, and the container."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(str(os.stat(path).st_ino) if "/ns/" in path else Path(path).read_text())
        except OSError:
            parts.append("")
    return ":".join(part.strip() for part in parts)


def start_time(pid: int) -> str:
    """When the process started, in clock ticks of the kernel; "" if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def is_surely_dead(description: dict[str, Any]) -> bool:
    """Whether the worker was a process of this machine that has ended. Whether a worker of another
    machine is alive, only its heartbeats show."""
    if description["host"] != host() or not start_time(os.getpid()):
        return False
    return bool(start_time(description["pid"]) != description["born"])
