"""A lock that the kernel releases when its owner dies."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from ..payload.private_folder import make_private

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """An exclusive lock on a file, held until released or until this process is dead.

    It is `flock`, bound to the open file, so a forked child drops its copy: else the lock would
    outlive this process with any process that a task or a view has forked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Try to acquire it, without waiting. Creates the file if needed."""
        make_private(self.path.parent)
        descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the file may have been removed between opening and locking it
            is_current = os.fstat(descriptor).st_ino == os.stat(self.path).st_ino
        except (BlockingIOError, FileNotFoundError):
            is_current = False
        if not is_current:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self, *, remove: bool = False) -> None:
        """Release it; with `remove`, delete the file first, while no other process can hold it."""
        if self._descriptor is not None:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def abandon(self) -> None:
        """In a forked child: drop the copy; the parent's lock stays."""
        self.release()


def _after_fork() -> None:
    for lock in list(_locks):
        lock.abandon()


os.register_at_fork(after_in_child=_after_fork)
