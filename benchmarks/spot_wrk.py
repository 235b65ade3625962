"""Does the profiler cost a real server throughput? gunicorn under wrk, with and without, in turns.

    python -m benchmarks.spot_wrk [--rounds 80] [--seconds 1]

Three servers (1 worker, 4 threads) run all the time: a plain one, the same once more, and one that
watches every request. In each round wrk (1 thread, 8 connections) loads each for a moment, one
after the other in random order, so that a machine that speeds up or slows down does so for all.
Each is divided by the plain one of its round; what is printed is the median of these ratios, and
between which two the true median lies with 95 % confidence. The same once more should come out at
1: its distance from 1 is the resolution of this machine. Requests a second are one figure, the
processor time that the server took for each is the other.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import floor, sqrt
from pathlib import Path
from random import sample
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "apps"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from flask import Flask

from benchmarks.spot_cost import make_app
from flask_offload.profiler.install import ProfilerSettings
from support import answers, free_port, require_tool, running

ROOT = Path(__file__).parents[1]
LATE = 30
"""Seconds by which wrk may end too late on a busy machine."""


def create_app() -> Flask:
    """What gunicorn runs; SPOT_STORE in the environment turns the profiler on."""
    store = os.environ.get("SPOT_STORE")
    return make_app(ProfilerSettings(False, True, store_path=Path(store)) if store else None)


@dataclass(frozen=True)
class Server:
    """One that runs. worker: its process that answers."""

    port: int
    worker: int

    def processor_seconds(self) -> float:
        """What all threads of the worker have used until now."""
        tasks = Path(f"/proc/{self.worker}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def load(self, wrk: str, seconds: int) -> tuple[float, float]:
        """One run of wrk: requests a second, and microseconds of processor time for each."""
        argv = [wrk, "-t1", "-c8", f"-d{seconds}s", f"http://127.0.0.1:{self.port}/"]
        before = self.processor_seconds()
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, timeout=seconds + LATE
        )
        used = self.processor_seconds() - before
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
        count = re.search(r"(\d+) requests in", done.stdout)
        if rate is None or count is None or count[1] == "0" or "Non-2xx" in done.stdout:
            raise RuntimeError(done.stdout)
        return float(rate[1]), used / int(count[1]) * 1e6


@contextmanager
def serving(store: str) -> Iterator[Server]:
    """gunicorn, as soon as it answers."""
    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    argv += ["--workers", "1", "--threads", "4", "--no-control-socket"]
    with running(
        [*argv, "benchmarks.spot_wrk:create_app()"],
        cwd=ROOT,
        env={"SPOT_STORE": store},
        ready=lambda _: answers(f"http://127.0.0.1:{port}/"),
        timeout=60,
    ) as process:
        [worker] = process.family()
        yield Server(port, worker)


def medians_range(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and between which values the true one lies with 95 % confidence.

    By order statistics: how many of n values are below the true median is binomial (n, 1/2), whose
    standard deviation is sqrt(n) / 2; 1.96 of these hold 95 %.
    """
    ordered = sorted(values)
    count = len(ordered)
    lowest = max(1, floor(count / 2 - 0.98 * sqrt(count))) - 1
    return median(ordered), ordered[lowest], ordered[count - 1 - lowest]


def main() -> None:
    """Print the medians, and the ratios with their range."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--seconds", type=int, default=1)
    arguments = parser.parse_args()
    wrk = require_tool("wrk")
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("") as plain,
        serving("") as again,
        serving(str(Path(folder) / "evidence.sqlite3")) as watched,
    ):
        servers = {"plain": plain, "plain again": again, "watched": watched}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for number in range(arguments.rounds + 1):
            for name in sample(list(servers), len(servers)):
                load = servers[name].load(wrk, arguments.seconds)
                if number:  # the first requests are slower
                    found[name].append(load)
    for index, unit in enumerate(("requests/s", "µs of processor time for each")):
        values = {name: [load[index] for load in loads] for name, loads in found.items()}
        print(f"{unit}: plain {median(values['plain']):,.0f}")
        for name in ("plain again", "watched"):
            ratios = [one / other for one, other in zip(values[name], values["plain"], strict=True)]
            middle, low, high = medians_range(ratios)
            print(f"  {name:<12} ÷ plain: {middle:.3f} (95 %: {low:.3f} … {high:.3f})")


if __name__ == "__main__":
    main()
