"""taskiq on Redis; its asynchronous enqueue is awaited by one loop of this process."""

from __future__ import annotations

import asyncio
import os

from taskiq_redis import ListQueueBroker

from benchmarks.note import note

broker = ListQueueBroker(os.environ["BENCH_URL"])
_loop = asyncio.new_event_loop()


@broker.task
async def job(sent: float) -> None:
    """The common task."""
    note(sent)


def prepare() -> None:
    """Connect."""
    _loop.run_until_complete(broker.startup())


def enqueue(sent: float) -> None:
    """Send it."""
    _loop.run_until_complete(job.kiq(sent))
