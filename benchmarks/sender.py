"""One peer's sender, in a process of its own: does what the lines of its input say, in order.

    python -m benchmarks.sender PEER

Input: a JSON list [command, argument, …]; output: one JSON value per line.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from .note import Notes
from .peers import BY_NAME


class Sender:
    """The commands."""

    def __init__(self, name: str) -> None:
        self.peer = BY_NAME[name].load()
        self.notes = Notes(Path(os.environ["BENCH_NOTES"]))

    def prepare(self) -> None:
        """Make tables, connect."""
        self.peer.prepare()

    def enqueue(self, jobs: int) -> list[float]:
        """Seconds that each enqueue took."""
        took = []
        for _ in range(jobs):
            began = time.perf_counter()
            self.peer.enqueue(time.monotonic())
            took.append(time.perf_counter() - began)
        return took

    def many(self, jobs: int, times: int) -> list[float]:
        """Seconds per job of each `enqueue_many`."""
        took = []
        for _ in range(times):
            sent = [time.monotonic()] * jobs
            began = time.perf_counter()
            self.peer.enqueue_many(sent)
            took.append((time.perf_counter() - began) / jobs)
        return took

    def fill(self, jobs: int) -> None:
        """Enqueue so many, as quickly as it goes."""
        if hasattr(self.peer, "enqueue_many"):
            for start in range(0, jobs, 1000):
                self.peer.enqueue_many([time.monotonic()] * min(1000, jobs - start))
        else:
            for _ in range(jobs):
                self.peer.enqueue(time.monotonic())

    def pickup(self, jobs: int, seconds: float, timeout: float) -> list[float]:
        """Seconds from before each enqueue to the first line of its task, one job at a time.

        seconds: begin no further job after so many.
        """
        self.notes.clear()
        done = 0
        deadline = time.monotonic() + seconds
        for done in range(1, jobs + 1):
            self.peer.enqueue(time.monotonic())
            if not self.notes.wait(done, timeout):
                raise TimeoutError(f"job {done} has not started in {timeout:g} s")
            if time.monotonic() > deadline:
                break
            time.sleep(random.uniform(0.005, 0.015))  # not in step with anybody's poll
        return [started - sent for sent, started in self.notes.read()]


def main() -> None:
    """Read commands until the end."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints is no answer
    sender = Sender(sys.argv[1])
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer: Any
        try:
            answer = {"ok": getattr(sender, command)(*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        output.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
