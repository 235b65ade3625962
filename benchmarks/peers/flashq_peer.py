"""flashq on SQLite."""

from __future__ import annotations

import os
from pathlib import Path

from flashq import FlashQ
from flashq.backends.sqlite import SQLiteBackend

from benchmarks.note import note

app = FlashQ(backend=SQLiteBackend(path=str(Path(os.environ["BENCH_FOLDER"], "flashq.sqlite3"))))
job = app.task()(note)


def prepare() -> None:
    """The backend makes itself."""


def enqueue(sent: float) -> None:
    """Send it."""
    job.delay(sent)
