"""Whose turn it is when several processes write at once: three ways to wait, side by side.

    python -m benchmarks.fair_writers [--writers 16] [--seconds 4] [--rounds 3] [--think 0]

`offload` is the busy handler of the sqlite engine, `sqlite` SQLite's own timeout, and `gate`
a lock file (flock) that everybody takes before writing. Each writer is a process that enqueues as
fast as it can, or thinks so many milliseconds in between. The database lies in memory (/dev/shm),
and each transaction lasts 150 µs longer, which is what an fsync took on an idle disk: what others
do to the disk would drown the differences. Rounds of the three ways take turns.
"""

from __future__ import annotations

import argparse
import fcntl
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.sqlite.connection import Connection
from flask_offload.jobs.job import new_id
from flask_offload.jobs.new_job import NewJob

FSYNC = 0.00015
PATIENCE = 30.0
Write = Callable[[Callable[[Connection], object]], object]


def offload(engine: SqliteEngine) -> Write:
    """As the engine does it."""
    return engine.database.write


def sqlite(engine: SqliteEngine) -> Write:
    """SQLite's own way: sleep longer the longer one has waited."""
    connection = engine.database._writer.connection
    assert connection is not None
    connection.set_busy_timeout(int(PATIENCE * 1000))
    return engine.database.write


def gate(engine: SqliteEngine) -> Write:
    """Stand in line at a lock file. A waiting writer cannot leave that line before its turn."""
    descriptor = os.open(f"{engine.database.path}.gate", os.O_RDWR | os.O_CREAT, 0o600)

    def write(work: Callable[[Connection], object]) -> object:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            return engine.database.write(work)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    return write


WAYS = {"offload": offload, "sqlite": sqlite, "gate": gate}


def writer(path: Path, way: str, seconds: float, think: float, start: Any, waits: Any) -> None:
    """One process: how long each of its enqueues took."""
    with closing(SqliteEngine(path, durable=False, busy_timeout=PATIENCE)) as engine:
        engine.database.write(lambda connection: None)
        write = WAYS[way](engine)

        def enqueue(connection: Connection) -> None:
            job = NewJob(
                id=new_id(), task="t", queue_name="q", priority=0, enqueued_at=0.0, args="[]"
            )
            engine.insert(connection, [job], time.time())
            time.sleep(FSYNC)

        took = []
        start.wait()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            write(enqueue)
            took.append(time.perf_counter() - began)
            if think:
                time.sleep(random.expovariate(1 / think))
    waits.put(took)


def measure(way: str, writers: int, seconds: float, think: float) -> tuple[float, ...]:
    """Writes per second; the slowest writer's share of the mean; p50, p99 and longest wait (ms)."""
    context = multiprocessing.get_context("fork")
    start, waits = context.Barrier(writers), context.Queue()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "jobs.sqlite3"
        SqliteEngine(path).close()
        arguments = (path, way, seconds, think, start, waits)
        processes = [context.Process(target=writer, args=arguments) for _ in range(writers)]
        for process in processes:
            process.start()
        shares = [waits.get() for _ in processes]
        for process in processes:
            process.join()
    mean = statistics.mean(len(share) for share in shares)
    everybody = sorted(wait * 1000 for share in shares for wait in share)
    return (
        len(everybody) / seconds,
        min(len(share) for share in shares) / mean,
        everybody[len(everybody) // 2],
        everybody[len(everybody) * 99 // 100],
        everybody[-1],
    )


def main() -> None:
    """Print a line for each way: the median of its rounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--think", type=float, default=0.0, help="milliseconds")
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in random.sample(list(WAYS), len(WAYS)):
            found[way].append(
                measure(way, arguments.writers, arguments.seconds, arguments.think / 1000)
            )
    print(f"{'way':<8}{'writes/s':>10}{'slowest':>10}{'p50 ms':>10}{'p99 ms':>10}{'longest':>10}")
    for way, rounds in found.items():
        rate, share, *waits = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{way:<8}{rate:>10.0f}{share:>10.2f}" + "".join(f"{wait:>10.1f}" for wait in waits))


if __name__ == "__main__":
    main()
