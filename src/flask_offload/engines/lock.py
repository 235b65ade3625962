"""A lock that is free as soon as its owner is dead."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from ..payload.private_folder import make_private
from .processes import has_ended, identity

TURN = 0.05
"""Seconds to wait for another process that acquires a lock in the same folder; it takes some µs."""

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """An exclusive lock on a file, held until released or until this process is dead.

    It is `flock`, bound to the open file, so every process that has inherited the descriptor keeps
    it. A child forked by Python drops its copy; one forked in C (by a library) can't. So the file
    names its owner: a lock whose owner has ended is taken although it is held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._turn: int | None = None
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this object has acquired it."""
        return self._descriptor is not None

    @property
    def is_current(self) -> bool:
        """Whether it is still held: no other process has taken it, as `acquire` may."""
        return self._descriptor is not None and self._leads_to(self._descriptor)

    def acquire(self, may_take: Callable[[str], bool] = has_ended) -> bool:
        """Try to acquire it, without waiting. Creates the file if needed.

        may_take: whether it is taken from the owner of this identity, who holds it.
        """
        make_private(self.path.parent)
        with self._alone() as is_alone:
            if not is_alone:
                return False
            if self._lock():
                return True
            try:
                owner = self.path.read_text()
            except FileNotFoundError:
                return False
            if not may_take(owner):
                return False
            self.path.unlink(missing_ok=True)  # the owner, or its child, has the old file
            return self._lock()

    def release(self, *, remove: bool = False) -> None:
        """Release it; with `remove`, delete the file first, while no other process can hold it."""
        if self._descriptor is not None:
            if remove and self.is_current:
                self.path.unlink(missing_ok=True)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # for those that have inherited it, too
            self._close()

    def abandon(self) -> None:
        """In a forked child: drop the copy; the parent's lock stays."""
        self._close()
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the file may have been removed between opening and locking it
            is_locked = self._leads_to(descriptor)
        except BlockingIOError:
            is_locked = False
        if not is_locked:
            os.close(descriptor)
            return False
        with contextlib.suppress(OSError):  # a full disk: then no process takes it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, identity().encode(), 0)
        self._descriptor = descriptor
        return True

    def _leads_to(self, descriptor: int) -> bool:
        try:
            return os.fstat(descriptor).st_ino == os.stat(self.path).st_ino
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """One process at a time for each folder: what a file says of its owner is true then."""
        self._turn = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield _flock_within(self._turn, TURN)
        finally:
            if self._turn is not None:
                fcntl.flock(self._turn, fcntl.LOCK_UN)
                os.close(self._turn)
                self._turn = None


def _flock_within(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        else:
            return True


def _after_fork() -> None:
    for lock in list(_locks):
        lock.abandon()


os.register_at_fork(after_in_child=_after_fork)
