"""Forks: nothing of SQLite may be open while the process forks.

A child that inherits an open connection does damage even if it never touches it. SQLite keeps the
locks of a process in memory, so the child believes in locks that the kernel gave to its parent
only: it reads and writes without them, and a transaction that was under way in another thread at
the moment of the fork locks the child out forever. So what is open is closed first,
and the next use opens it again, in the parent as in the child.

`subprocess` does not come here: it forks and executes in C.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod


class ClosesBeforeFork(ABC):
    """Something that is closed before this process forks."""

    def __init__(self) -> None:
        with _one_at_a_time:
            _members.add(self)

    @abstractmethod
    def before_fork(self) -> None:
        """Close, and keep it closed until after_fork."""

    @abstractmethod
    def after_fork(self, *, in_child: bool) -> None:
        """Allow use again. In the child, locks of other threads have no owner: replace them."""


_members: weakref.WeakSet[ClosesBeforeFork] = weakref.WeakSet()
_one_at_a_time = threading.Lock()
_closed: list[ClosesBeforeFork] = []


def _before() -> None:
    _one_at_a_time.acquire()
    for member in list(_members):
        _closed.append(member)
        member.before_fork()


def _after_in_parent() -> None:
    for member in _closed:
        member.after_fork(in_child=False)
    _closed.clear()
    _one_at_a_time.release()


def _after_in_child() -> None:
    """All members: also those that were added while others were being closed, and after a fork in
    C, which has closed none."""
    global _one_at_a_time
    _one_at_a_time = threading.Lock()
    for member in list(_members):
        member.after_fork(in_child=True)
    _closed.clear()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
