"""Notifications: an enqueue wakes the workers at once, so that no worker has to poll often.

Each worker reads a named pipe of its own in the run folder; a process that has committed something
writes a byte into each. A pipe needs no port, has no limit on the length of its path, keeps a byte
that comes early, and an unread one costs nothing. It carries no data: only "look at the database".
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from .fork_safety import ClosesBeforeFork

LOOK_AGAIN = 0.05
"""Seconds between two looks for new pipes. A worker looks at the database once its pipe exists, so
it misses only what is committed between these two looks; its poll finds that a second later."""

TICK = 50_000_000
"""Nanoseconds. The time of a folder's last change is some milliseconds coarse: a second change
within them does not show."""

STARTING = 5_000_000_000
"""Nanoseconds after which a pipe without a reader is taken for a dead worker's."""


class NotificationPipe:
    """The pipe of one worker. `fileno()` can be waited for."""

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
        """Consume all notifications so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 65536)

    def close(self) -> None:
        """Remove the pipe."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class Notifiers(ClosesBeforeFork):
    """The pipes of all workers, for a process that enqueues. Safe between threads and forks."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = str(folder)
        self._lock = threading.Lock()
        self._descriptors: dict[str, int] = {}
        self._looked = float("-inf")
        self._seen = 0
        """When the folder had last changed, as far as its contents are known (unix nanoseconds)."""

    def notify(self) -> None:
        """Wake every worker. Never blocks; a pipe that has lost its reader is closed."""
        with self._lock:  # a descriptor must not be closed, and given to a file, during a write
            now = time.monotonic()
            if now - self._looked > LOOK_AGAIN:
                self._looked = now
                self._look_for_new()
            for name, descriptor in tuple(self._descriptors.items()):
                try:
                    os.write(descriptor, b"!")
                except BlockingIOError:
                    pass  # so many are unread that one more adds nothing
                except OSError:
                    os.close(self._descriptors.pop(name))

    def close(self) -> None:
        """Close all descriptors; the next notify() opens them again."""
        with self._lock:
            self._close()

    def before_fork(self) -> None:
        """Wait until no thread is notifying, and close."""
        self._lock.acquire()
        self._close()

    def after_fork(self, *, in_child: bool) -> None:
        """Allow notify() again."""
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
        """Open the pipes that were made since the last look into the folder."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed == self._seen:
                return
            names = {name for name in os.listdir(self._folder) if name.endswith(".notify")}
        except OSError:
            return  # no worker has ever been here
        may_change = TICK
        for name in names - self._descriptors.keys():
            try:
                self._descriptors[name] = os.open(
                    f"{self._folder}/{name}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
            except OSError:  # no reader: its worker is dead, or has not opened it yet
                may_change = STARTING
        for name in self._descriptors.keys() - names:
            os.close(self._descriptors.pop(name))
        self._seen = changed if time.time_ns() - changed > may_change else 0
