"""RQ on Redis, with its SimpleWorker: the usual one forks for each job and is four times slower."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.note import note

queue = Queue(connection=Redis.from_url(os.environ["BENCH_URL"]))


def prepare() -> None:
    """Nothing to do."""


def enqueue(sent: float) -> None:
    """Enqueue it."""
    queue.enqueue(note, sent)


if __name__ == "__main__":
    SimpleWorker([queue], connection=queue.connection).work(logging_level="ERROR")
