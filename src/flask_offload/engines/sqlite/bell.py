"""The bell: an enqueue wakes the workers at once, so that nobody has to poll often.

Each worker reads a named pipe of its own in the run folder; whoever has committed something writes
a byte into each. A pipe needs no port, knows no limit on the length of its path, keeps a ring that
comes early, and an unread one costs nothing. It carries no data: only "look at the database".
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

RESCAN = 1.0
"""Seconds after which the list of bells is read again. A worker that is new meanwhile looks at the
database when it starts, and polls."""


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


class Bells:
    """All workers' bells, as somebody who enqueues rings them. Safe between threads and forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptors: dict[str, int] = {}
        self._scanned = float("-inf")

    def ring(self) -> None:
        """Wake every worker. Never blocks; a bell that nobody reads any more is forgotten."""
        now = time.monotonic()
        if now - self._scanned > RESCAN:
            self._scanned = now
            self._scan()
        for name, descriptor in tuple(self._descriptors.items()):
            try:
                os.write(descriptor, b"!")
            except BlockingIOError:
                pass  # so many rings are unread that one more says nothing
            except OSError:
                self._forget(name)

    def close(self) -> None:
        """Close all descriptors; the next ring opens them again."""
        for name in tuple(self._descriptors):
            self._forget(name)
        self._scanned = float("-inf")

    def _scan(self) -> None:
        try:
            names = {name for name in os.listdir(self._folder) if name.endswith(".bell")}
        except OSError:
            names = set()
        for name in names - self._descriptors.keys():
            # without a reader, opening fails (ENXIO): the worker is dead
            with contextlib.suppress(OSError):
                descriptor = os.open(
                    self._folder / name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
                if self._descriptors.setdefault(name, descriptor) != descriptor:
                    os.close(descriptor)
        for name in self._descriptors.keys() - names:
            self._forget(name)

    def _forget(self, name: str) -> None:
        descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
