"""A real worker under the load of the formula: jobs that come at random and wait at random.

They wait rather than compute, so that the threads and not the processor are the servers.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from .erlang import Load, Seen, exponential
from .field import Entry, PeerFailed
from .peers import BY_NAME

LOADS = (
    Load(rate=16.0, service=0.2, servers=4),
    Load(rate=16.0, service=0.2, servers=5),
    Load(rate=16.0, service=0.2, servers=6),
)
JOBS = 800
"""Of each load; at 16 a second, 50 seconds."""
UNNOTICED = 0.02
"""Seconds between enqueue and start that no queue explains: a quiet worker's pickup, and more."""


def tell_worker(seed: int, jobs: int = JOBS) -> None:
    """Print what the formula says, and what jobs met."""
    print(f"\nA real worker, {jobs} jobs of each load: formula / measured")
    for load in LOADS:
        seen = Seen.of(measure(load, jobs, seed), UNNOTICED)
        print(
            f"{load.rate:>7g} {load.service:>7g} {load.servers:>8} {load.busy:>6.0%}"
            f"   must wait {load.must_wait:.3f} / {seen.must_wait:.3f}"
            f"   mean wait s {load.mean_wait:.3f} / {seen.mean_wait:.3f}"
            f"   p95 s {load.wait(0.95):.3f} / {seen.p95:.3f}",
            flush=True,
        )


def measure(load: Load, jobs: int, seed: int) -> list[float]:
    """Seconds from each enqueue to the first line of the task. Raises PeerFailed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="queueing-")))
        entry = Entry(BY_NAME["offload-process"], folder / "offload", None)
        entry.command = ["-m", "flask", "--app", "benchmarks.jobs", "offload", "worker"]
        os.environ |= entry.environ
        from .jobs import create_app, wait  # it reads the environment

        stack.enter_context(create_app().app_context())
        stack.enter_context(entry.worker("--threads", str(load.servers), "--log-level", "error"))
        wait.enqueue(0.0, 0.0)
        if not entry.notes.wait(1, 30.0):
            raise PeerFailed(entry.worker_log)
        entry.notes.clear()
        chance = random.Random(seed)
        due = time.monotonic()
        for _ in range(jobs):
            due += chance.expovariate(load.rate)
            time.sleep(max(0.0, due - time.monotonic()))
            wait.enqueue(time.monotonic(), exponential(chance, load.service))
        if not entry.notes.wait(jobs, 60.0):
            raise PeerFailed(f"{entry.notes.count()} of {jobs} jobs: {entry.worker_log}")
        return [max(0.0, started - sent) for sent, started in entry.notes.read()]
