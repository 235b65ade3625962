"""Does spotting cost a real server throughput? gunicorn under wrk, with and without, side by side.

    python -m benchmarks.spot_wrk [--rounds 12] [--seconds 3]

Both servers (1 worker, 4 threads) run all the time; in each round wrk (1 thread, 8 connections)
loads both at once, so that whatever else the machine does hits both alike. Requests a second are
what is left of the machine for each; so the processor time that the server took for each request is
told as well: it is what limits a server that has a processor to itself. Compare the ratio with the
spread of the rounds: a difference that is smaller is noise.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from flask import Flask

from benchmarks.spot_cost import make_app
from flask_offload.evidence.install import EvidenceSettings
from support import answers, free_port, require_tool, running

ROOT = Path(__file__).parents[1]
LATE = 30
"""Seconds by which wrk may end too late on a busy machine."""


def create_app() -> Flask:
    """What gunicorn runs; SPOT_STORE in the environment turns spotting on."""
    store = os.environ.get("SPOT_STORE")
    return make_app(EvidenceSettings(False, True, store_path=Path(store)) if store else None)


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


def main() -> None:
    """Print the medians, the ratio of each round's two, and its spread."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=3)
    arguments = parser.parse_args()
    wrk = require_tool("wrk")
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "watched": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("") as plain,
        serving(str(Path(folder) / "evidence.sqlite3")) as watched,
        ThreadPoolExecutor(2) as pool,
    ):
        for number in range(arguments.rounds + 1):
            loads = [
                pool.submit(server.load, wrk, arguments.seconds) for server in (plain, watched)
            ]
            for name, load in zip(found, loads, strict=True):
                if number:  # the first requests are slower
                    found[name].append(load.result())
    for index, unit in enumerate(("requests/s", "µs of processor time for each")):
        before, after = ([each[index] for each in found[name]] for name in ("plain", "watched"))
        ratios = sorted(one / other for one, other in zip(after, before, strict=True))
        low, middle, high = quantiles(ratios, n=4)
        print(
            f"plain {median(before):,.0f}, watched {median(after):,.0f} {unit}:"
            f" ratio {middle:.3f} (middle half {low:.3f} … {high:.3f})"
        )


if __name__ == "__main__":
    main()
