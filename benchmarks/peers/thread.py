"""A new thread for each call, in the web process: nothing is kept."""

from __future__ import annotations

import threading

from benchmarks.note import note


def prepare() -> None:
    """Nothing to do."""


def enqueue(sent: float) -> None:
    """Start it."""
    threading.Thread(target=note, args=(sent,)).start()
