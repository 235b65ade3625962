"""The other workers of the database, watched so that the death of one is seen at once."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress
from pathlib import Path

from ..engines.sqlite.worker_locks import other_workers


class Neighbours:
    """Process descriptors (pidfd, on Linux) of the other workers, which a selector finds readable
    when their process ends. Elsewhere, and across containers, the regular look has to do."""

    def __init__(self, selector: selectors.BaseSelector, folder: Path, own_id: str) -> None:
        self._selector = selector
        self._folder = folder
        self._own_id = own_id
        self._watched: dict[int, int] = {}  # pid -> descriptor

    def look(self) -> None:
        """Watch those who are there now."""
        pids = other_workers(self._folder, self._own_id)
        for pid in self._watched.keys() - pids:
            self._forget(pid)
        for pid in pids - self._watched.keys():
            with suppress(OSError, AttributeError):
                descriptor = os.pidfd_open(pid)
                self._watched[pid] = descriptor
                self._selector.register(descriptor, selectors.EVENT_READ)

    def has_ended(self, fileobj: object) -> bool:
        """Whether what the selector found is the end of one of them, who is then forgotten."""
        for pid, descriptor in self._watched.items():
            if descriptor == fileobj:
                self._forget(pid)
                return True
        return False

    def close(self) -> None:
        """In a forked child: let go of the descriptors. The selector is gone."""
        for descriptor in self._watched.values():
            os.close(descriptor)
        self._watched.clear()

    def _forget(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)
