"""Long work on a database that is in use, in small batches."""

from __future__ import annotations

import time
from collections.abc import Callable


def in_turns(step: Callable[[], bool]) -> None:
    """Repeat a step while it returns True, and pause as long as each has taken (1 s at most): half
    of the time the database is free for enqueues."""
    while True:
        began = time.perf_counter()
        if not step():
            return
        time.sleep(min(time.perf_counter() - began, 1.0))
