"""Jobs that may have been accepted although their caller was told that they are not.

When an answer of Redis does not come, nobody can know whether the job was written down before. Its
caller hears EngineUnavailable, so it must not run: it is taken back as soon as Redis can be asked,
which is in time, as workers leave a new job to its sender for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from flask_offload.errors import EngineUnavailable

AGAIN: Final = 0.5
"""Seconds between two tries."""


class Regrets:
    """take_back: does it for these ids, or raises EngineUnavailable. patience: seconds after which
    there is no sense in trying any more."""

    def __init__(self, take_back: Callable[[list[str]], object], patience: float) -> None:
        self._take_back = take_back
        self._patience = patience
        self._thread: threading.Thread | None = None
        self.forget_parent()

    def add(self, ids: Iterable[str]) -> None:
        """Take these back, in a thread of its own."""
        with self._lock:
            until = time.monotonic() + self._patience
            self._ids.update(dict.fromkeys(ids, until))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="offload-regrets", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Give up what could not be taken back."""
        self._ending.set()
        thread = self._thread
        if thread is not None:
            thread.join(10.0)
        self._ending.clear()

    def forget_parent(self) -> None:
        """At first, and in a forked child, which has none of its parent's threads."""
        self._ids: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread = None
        self._ending = threading.Event()

    def _work(self) -> None:
        while True:
            self._ending.wait(AGAIN)
            with self._lock:
                now = time.monotonic()
                ids = [job_id for job_id, until in self._ids.items() if until > now]
            done = self._try(ids)
            with self._lock:
                if done or self._ending.is_set():
                    for job_id in ids:
                        del self._ids[job_id]
                self._ids = {one: until for one, until in self._ids.items() if until > now}
                if not self._ids:
                    self._thread = None
                    return

    def _try(self, ids: list[str]) -> bool:
        try:
            if ids:
                self._take_back(ids)
        except EngineUnavailable:
            return False
        return True
