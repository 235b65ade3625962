"""One experiment in a thread of its own, so that it ends, and frees the sample app, even if the
request that started it is dropped."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator

from flask_offload.errors import OffloadError

from ..experiments import Event, Events

QUIET = 1.0
"""Seconds without an event after which the page is sent an empty line: only a write shows that the
connection is closed."""

GONE = 5.0
"""Seconds without a reader after which an experiment ends. A server that drops a connection may
forget to close what it was sending."""

PATIENCE = 120.0
"""Seconds that an experiment waits for the one before it."""

BUSY = "Another experiment is still running; this one is next."
STUCK = (
    f"Another experiment has been running for {PATIENCE:.0f} seconds: stop it, or restart the lab."
)

_END = None


class ExperimentRun:
    """Runs at once, or when `exclusive` is free: experiments share the sample app, and a second one
    would distort the figures of the first."""

    def __init__(self, events: Events, exclusive: threading.Lock) -> None:
        self._events = events
        self._exclusive = exclusive
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._asked = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="lab-experiment", daemon=True).start()

    def events(self) -> Iterator[Event | None]:
        """Its events as they happen, and None after each second without one. Closing this iterator
        ends the experiment."""
        try:
            while True:
                self._asked = time.monotonic()
                try:
                    event = self._queue.get(timeout=QUIET)
                except queue.Empty:
                    yield None
                    continue
                if event is _END:
                    return
                yield event
        finally:
            self._closed.set()

    def _is_followed(self) -> bool:
        return not self._closed.is_set() and time.monotonic() - self._asked < GONE

    def _run(self) -> None:
        try:
            if self._acquire():
                try:
                    self._go()
                finally:
                    self._exclusive.release()
        except OffloadError as error:
            self._queue.put({"error": str(error)})
        except Exception as error:
            logging.getLogger(__name__).exception("an experiment failed")
            self._queue.put({"error": f"The experiment failed: {error}"})
        finally:
            self._queue.put(_END)

    def _acquire(self) -> bool:
        if self._exclusive.acquire(blocking=False):
            return True
        self._queue.put({"status": BUSY})
        deadline = time.monotonic() + PATIENCE
        while self._is_followed() and time.monotonic() < deadline:
            if self._exclusive.acquire(timeout=0.2):
                return True
        self._queue.put({"error": STUCK})
        return False

    def _go(self) -> None:
        events = self._events
        try:
            for event in events:
                if not self._is_followed():
                    return
                self._queue.put(event)
        finally:
            close = getattr(events, "close", None)
            if close is not None:  # what it has opened belongs to this thread
                close()
