"""The other workers of the store, watched so that the death of one is noticed at once."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from contextlib import suppress


class Peers:
    """Process descriptors (pidfd, on Linux) of the other workers, which a selector finds readable
    when their process ends. Elsewhere, and across containers, the regular look has to do."""

    def __init__(self, selector: selectors.BaseSelector, pids: Callable[[], set[int]]) -> None:
        self._selector = selector
        self._pids = pids
        self._watched: dict[int, int] = {}  # pid -> descriptor

    def look(self) -> None:
        """Watch those that are there now."""
        pids = self._pids()
        for pid in self._watched.keys() - pids:
            self._forget(pid)
        for pid in pids - self._watched.keys():
            with suppress(OSError, AttributeError):
                descriptor = os.pidfd_open(pid)
                self._watched[pid] = descriptor
                self._selector.register(descriptor, selectors.EVENT_READ)

    def has_ended(self, fileobj: object) -> bool:
        """Whether what the selector found is the end of one of them, which is then forgotten."""
        for pid, descriptor in self._watched.items():
            if descriptor == fileobj:
                self._forget(pid)
                return True
        return False

    def close(self) -> None:
        """In a forked child: close the descriptors. The selector is closed already."""
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._watched.clear()

    def _forget(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)
