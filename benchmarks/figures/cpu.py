"""What `/` waits while jobs compute: in a worker, and in threads of the web process."""

from __future__ import annotations

import http.client
import os
import statistics
import time
from urllib.parse import urlsplit

from ..field import Entry, Field
from ..peers import BY_NAME
from . import Effort, Figure, percentile
from .web import served

SECONDS = 3.0
EVERY = 0.005
NICE = ("nice", "-n", "5")


def measure(field: Field, effort: Effort) -> Figure:
    """A visitor every 5 ms; idle and with jobs in turns."""
    cores = os.cpu_count() or 1
    figure = Figure(
        "`/` while jobs compute, p99", ["p99 ms", "x idle", "p50 ms", "p50 x idle", "requests/s"]
    )
    seconds = max(1.0, SECONDS * effort.scale)
    cases = {"1 job in the worker": ("/burn", 1), f"{cores} jobs in the worker": ("/burn", cores)}
    cases |= {"1 thread": ("/burn-here", 1), f"{cores} threads": ("/burn-here", cores)}
    took: dict[str, list[tuple[float, float, float]]] = {}
    ratios: dict[str, list[tuple[float, float]]] = {}
    entry = field.entry(BY_NAME["offload-power"])
    worker = _worker(entry)
    with served(entry) as address, worker.worker():
        time.sleep(2.0)
        for _ in range(effort.rounds):
            for name, (path, jobs) in cases.items():
                idle = visit(address, seconds)
                _get(address, f"{path}?jobs={jobs}&seconds={seconds + 0.5}")
                time.sleep(0.25)
                busy = visit(address, seconds)
                took.setdefault("idle", []).append(idle)
                took.setdefault(name, []).append(busy)
                ratios.setdefault(name, []).append((busy[0] / idle[0], busy[1] / idle[1]))
                time.sleep(0.75)
    for name, found in took.items():
        p99, p50, rate = (statistics.median(each[n] for each in found) for n in range(3))
        pairs = ratios.get(name, [(1.0, 1.0)])
        tail, middle = (statistics.median(pair[n] for pair in pairs) for n in range(2))
        figure.rows[name] = [p99, tail, p50, middle, rate]
    held = figure.rows["1 job in the worker"][1]
    figure.judge(f"1 job on {cores} cores: p99, x idle", held, 1.5)
    figure.notes.append(
        f"The visitor and gunicorn need the better part of a core. With {cores} jobs on {cores}"
        " cores, `/` shares its core with a job; the worker yields (nice 5), as a kept one does."
    )
    return figure


def _worker(entry: Entry) -> Entry:
    """The worker of the app with the computing jobs."""
    entry.command = ["-m", "flask", "--app", "benchmarks.jobs", "offload", "worker"]
    entry.command += ["--log-level", "error"]
    entry.prefix = list(NICE)
    return entry


def _get(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request("GET", path)
    connection.getresponse().read()
    connection.close()


def visit(address: str, seconds: float) -> tuple[float, float, float]:
    """p99 and p50 in ms, and requests a second, of somebody who comes every 5 ms."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    took = []
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        connection.request("GET", "/")
        connection.getresponse().read()
        took.append((time.perf_counter() - now) * 1e3)
        time.sleep(max(0.0, EVERY - took[-1] / 1e3))
    connection.close()
    return percentile(took, 0.99), percentile(took, 0.5), len(took) / seconds
