"""Dramatiq on Redis."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.note import note

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_URL"]))  # type: ignore[no-untyped-call]
job = dramatiq.actor(note)


def prepare() -> None:
    """Nothing to do."""


def enqueue(sent: float) -> None:
    """Send it."""
    job.send(sent)
