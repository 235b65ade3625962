"""Huey on Redis."""

from __future__ import annotations

import os

from huey import RedisHuey

from benchmarks.note import note

huey = RedisHuey(url=os.environ["BENCH_URL"])
job = huey.task()(note)


def prepare() -> None:
    """Nothing to do."""


def enqueue(sent: float) -> None:
    """Call it."""
    job(sent)
