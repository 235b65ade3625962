"""The bell: an enqueue wakes the workers at once, so that nobody has to poll often.

Each worker reads a named pipe of its own in the run folder; whoever has committed something writes
a byte into each. A pipe needs no port, knows no limit on the length of its path, keeps a ring that
comes early, and an unread one costs nothing. It carries no data: only "look at the database".
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from .fork_safety import ClosesBeforeFork

LOOK_AGAIN = 0.05
"""Seconds between two looks for new bells. A worker looks at the database when its bell is up, so
it misses only what is committed between that look and ours; its poll finds that a second later."""

TICK = 50_000_000
"""Nanoseconds. The time of a folder's last change is some milliseconds coarse: a second change
within them does not show."""

STARTING = 5_000_000_000
"""Nanoseconds after which a bell that nobody reads is thought to be a dead worker's."""


class Bell:
    """A worker's own bell. `fileno()` can be waited for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # read and write: without a writer of its own, the pipe would be at its end when empty
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor to select on."""
        return self._descriptor

    def clear(self) -> None:
        """Take back all rings so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 65536)

    def close(self) -> None:
        """Take the bell down."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class Bells(ClosesBeforeFork):
    """All workers' bells, as somebody who enqueues rings them. Safe between threads and forks."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = str(folder)
        self._lock = threading.Lock()
        self._descriptors: dict[str, int] = {}
        self._looked = float("-inf")
        self._seen = 0
        """When the folder had last changed, as far as we know what is in it (unix nanoseconds)."""

    def ring(self) -> None:
        """Wake every worker. Never blocks; a bell that nobody reads any more is forgotten."""
        with self._lock:  # a descriptor must not be closed, and given to a file, while we write
            now = time.monotonic()
            if now - self._looked > LOOK_AGAIN:
                self._looked = now
                self._look_for_new()
            for name, descriptor in tuple(self._descriptors.items()):
                try:
                    os.write(descriptor, b"!")
                except BlockingIOError:
                    pass  # so many rings are unread that one more says nothing
                except OSError:
                    os.close(self._descriptors.pop(name))

    def close(self) -> None:
        """Close all descriptors; the next ring opens them again."""
        with self._lock:
            self._close()

    def before_fork(self) -> None:
        """Wait until nobody rings, and close."""
        self._lock.acquire()
        self._close()

    def after_fork(self, *, in_child: bool) -> None:
        """Let it be rung again."""
        if in_child:
            self._lock = threading.Lock()
        else:
            self._lock.release()

    def _close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._looked, self._seen = float("-inf"), 0

    def _look_for_new(self) -> None:
        """Open the bells that were put up since we last looked into the folder."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed == self._seen:
                return
            names = {name for name in os.listdir(self._folder) if name.endswith(".bell")}
        except OSError:
            return  # no worker has ever been here
        may_change = TICK
        for name in names - self._descriptors.keys():
            try:
                self._descriptors[name] = os.open(
                    f"{self._folder}/{name}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
            except OSError:  # nobody reads it: its worker is dead, or has not opened it yet
                may_change = STARTING
        for name in self._descriptors.keys() - names:
            os.close(self._descriptors.pop(name))
        self._seen = changed if time.time_ns() - changed > may_change else 0
