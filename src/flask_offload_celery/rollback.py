"""Withdraws jobs that may have been recorded although `enqueue` has raised EngineUnavailable.

When an answer of Redis does not arrive, it is unknown whether the job was recorded before. It must
not run, so it is withdrawn as soon as Redis answers again, which is in time: workers leave a new
job to its sender for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from flask_offload.errors import EngineUnavailable

RETRY_EVERY: Final = 0.5
"""Seconds."""


class Rollback:
    """withdraw: does it for these ids, or raises EngineUnavailable. patience: seconds after which
    it is too late to try again."""

    def __init__(self, withdraw: Callable[[list[str]], object], patience: float) -> None:
        self._withdraw = withdraw
        self._patience = patience
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """A forked child has no thread, and leaves these jobs to its parent."""
        self._expires_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def add(self, ids: Iterable[str]) -> None:
        """Withdraw these in the background."""
        with self._lock:
            self._expires_at.update(dict.fromkeys(ids, time.monotonic() + self._patience))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="offload-rollback", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Try once more, then end."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join(10.0)
        self._closing.clear()

    def _run(self) -> None:
        while True:
            is_last = self._closing.wait(RETRY_EVERY)
            with self._lock:
                ids = list(self._expires_at)
            done = self._try(ids)
            now = time.monotonic()
            with self._lock:
                for job_id in ids:
                    if done or is_last or self._expires_at[job_id] < now:
                        del self._expires_at[job_id]
                if not self._expires_at:
                    self._thread = None
                    return

    def _try(self, ids: list[str]) -> bool:
        try:
            self._withdraw(ids)
        except EngineUnavailable:
            return False
        return True
