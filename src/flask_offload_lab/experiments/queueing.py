"""Jobs that come at random, take a random time, and wait for one of a few threads."""

from __future__ import annotations

import math
import random
import time

from flask_offload.measure import percentile

from .. import queue_app
from . import Events
from .own_worker import LOOK, OwnWorker

SECONDS = 12.0
"""For which jobs come."""

AFTERWARDS = 6.0
"""Seconds that the last ones get to start; where more comes than can be done, not all do."""

EVERY = 0.25
"""Seconds between two reports."""


def queueing(rate: int, work_ms: int, threads: int, workers: int) -> Events:
    """`rate` jobs a second, each of them `work_ms` on average, on `workers` processes with
    `threads` each.

    Events: at (s), waiting, running, once in a while; then jobs, mean and p95 (of the wait, ms),
    left (jobs that never started).
    """
    yield {"status": f"Starting {_several(workers, 'process', 'processes')}…"}
    with OwnWorker(workers, threads) as worker:
        count = round(rate * SECONDS)
        lengths = exponential_values(count, work_ms / 1000)
        for length in exponential_values(
            _running(rate, work_ms, threads * workers), work_ms / 1000
        ):
            worker.enqueue(queue_app.work, "before", length)
        sent: dict[str, float] = {}
        began = time.monotonic()
        due, reported = began, began
        deadline = began + SECONDS + AFTERWARDS
        gaps = exponential_values(count, 1 / rate)
        while time.monotonic() < deadline:
            while len(sent) < count and due <= time.monotonic():
                name = str(len(sent))
                sent[name] = time.monotonic()
                worker.enqueue(queue_app.work, name, lengths[len(sent) - 1])
                due += gaps[len(sent) - 1]
            if time.monotonic() - reported > EVERY:
                reported = time.monotonic()
                started, ended = (worker.names(f"work-{edge}", sent) for edge in ("begin", "end"))
                yield {
                    "at": round(reported - began, 2),
                    "waiting": max(len(sent) - started, 0),
                    "running": started - ended,
                }
                if started == count:
                    break
            time.sleep(min(LOOK / 4, max(due - time.monotonic(), 0.001)))
        starts = {note.subject: note.at for note in worker.notes("work-begin")}
        waits = [max(starts[name] - at, 0.0) * 1000 for name, at in sent.items() if name in starts]
        yield {
            "jobs": count,
            "mean": round(sum(waits) / len(waits), 1) if waits else None,
            "p95": percentile(waits, 95),
            "left": count - len(waits),
        }


def _running(rate: int, work_ms: int, servers: int) -> int:
    """How many jobs run on average: a measurement begins with so many, not on an idle worker."""
    return min(round(rate * work_ms / 1000), servers)


def exponential_values(count: int, mean: float) -> list[float]:
    """So many values of the exponential distribution, in random order. They are its quantiles: in a
    short run, values drawn at random would have another mean than was asked for."""
    if not count:
        return []
    values = [-math.log(1 - (number + 0.5) / count) for number in range(count)]
    factor = mean * count / sum(values)
    random.shuffle(values)
    return [value * factor for value in values]


def _several(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
