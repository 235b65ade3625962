"""Huey on SQLite, with and without fsync."""

from __future__ import annotations

import os
from pathlib import Path

from huey import SqliteHuey

from benchmarks.note import note

huey = SqliteHuey(
    filename=str(Path(os.environ["BENCH_FOLDER"], "huey.sqlite3")),
    fsync=bool(os.environ.get("BENCH_FSYNC")),
)
job = huey.task()(note)


def prepare() -> None:
    """The storage makes itself."""


def enqueue(sent: float) -> None:
    """Call it."""
    job(sent)
