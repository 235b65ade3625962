"""Lets a function that takes its time report to the page while it runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from . import Event, Events

Tell = Callable[[Event], None]


def telling(work: Callable[[Tell], None]) -> Events:
    """Run `work` in a thread; what it tells comes out as events, at once. Raises what it raises.

    If the reader leaves, the work still goes on to its end: it may have killed something that it
    has yet to start again.
    """
    told: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work(told.put)
        except BaseException as error:
            failed.append(error)
        finally:
            told.put(None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while (event := told.get()) is not None:
            yield event
    finally:
        thread.join()
    if failed:
        raise failed[0]
