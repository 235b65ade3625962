"""honker on SQLite. (No build of it for this Python: written by its README, and not yet run.)"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import honker

from benchmarks.note import note

_queue: Any


def connect() -> Any:
    """The queue, in the peer's own file."""
    return honker.open(str(Path(os.environ["BENCH_FOLDER"], "honker.sqlite3"))).queue("bench")


def prepare() -> None:
    """Open it."""
    global _queue
    _queue = connect()


def enqueue(sent: float) -> None:
    """One row."""
    _queue.enqueue({"sent": sent})


async def work() -> None:
    """Run jobs for ever."""
    async for job in connect().claim("worker-1"):
        note(job.payload["sent"])
        job.ack()


if __name__ == "__main__":
    asyncio.run(work())
