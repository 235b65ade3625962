"""What the logs of jobs, the counters, the enqueue tally, metrics and bulk actions cost.

    python -m benchmarks.control_cost [--seconds 40] [--jobs 5000] [--engine sqlite]

Two workers, or two engines of one process, do the same work in turns, one with and one without;
compared is the processor time of their processes, by the minimum and by the median of all pairs.
The whole takes about six minutes on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask

from flask_offload import JobStatus, Offload
from flask_offload.admin.bulk import change_all, matching
from flask_offload.engines import counters
from flask_offload.engines.base import JobQuery
from flask_offload.engines.store import Retention, StoreOptions
from flask_offload.jobs.attempt import Ending, Outcome
from flask_offload.jobs.job import Error
from flask_offload.jobs.new_job import THREADS

from .figures import percentile

sys.path.append(str(Path(__file__).parent.parent / "tests" / "helpers"))

BATCH = 1000
FAILED = 5000
PAUSE = 0.002
PATIENCE = 120.0

offload = Offload()


@offload.task(name="quiet")
def quiet(number: int) -> None: ...


@offload.task(name="logging")
def one_line(number: int) -> None:
    logging.getLogger("shop").info("invoice %d", number)


def create_app(**config: Any) -> Flask:
    """The app, for this process and for workers."""
    app = Flask("cost")
    app.config.update(OFFLOAD_WORKER="off", OFFLOAD_DURABILITY="process", OFFLOAD_METRICS=True)
    app.config.from_prefixed_env()
    app.config.update(config)
    logging.getLogger("shop").setLevel("INFO")
    logging.getLogger("shop").addHandler(logging.NullHandler())
    logging.getLogger("shop").propagate = False
    offload.init_app(app)
    return app


class Site:
    """The app on a database of its own, in this process."""

    def __init__(self, kind: str, folder: Path, stack: ExitStack, server: Any, **env: str) -> None:
        self.env = {"FLASK_OFFLOAD_ENGINE": kind, **env}
        if kind == "postgres":
            self.env["FLASK_OFFLOAD_POSTGRES_URL"] = stack.enter_context(server.database())
        else:
            path = tempfile.mkdtemp(dir=folder)
            self.env["FLASK_OFFLOAD_SQLITE_PATH"] = f"{path}/jobs.sqlite3"
        config = {name.removeprefix("FLASK_"): value for name, value in self.env.items()}
        self.app = create_app(**{**config, "OFFLOAD_KEEP_LOG": 0})
        self.engine: Any = offload.state_of(self.app).engine
        stack.callback(self.engine.close)
        self.pid = 0

    def start_worker(self, stack: ExitStack, *, counts: bool = True) -> None:
        """Start a worker and wait for it. counts: whether it has counters."""
        words = [sys.executable, "-m", "benchmarks.control_cost", "--as-worker"]
        environ = {**os.environ, **self.env, "COST_COUNTS": str(counts)}
        process = subprocess.Popen(words, env=environ)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        self.pid = process.pid
        deadline = time.monotonic() + 60
        while not self.engine.workers() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.drain("quiet", 100)

    def fill(self, task: str, count: int) -> None:
        """Enqueue so many jobs."""
        with self.app.app_context():
            for first in range(0, count, BATCH):
                last = min(count, first + BATCH)
                offload.enqueue_many([offload.tasks[task].call(n) for n in range(first, last)])

    def drain(self, task: str, count: int) -> float:
        """Microseconds of processor time that the worker needs for each of so many jobs."""
        self.engine.pause("default")
        self.fill(task, count)
        began = processor_time(self.pid)
        self.engine.resume("default")
        deadline = time.monotonic() + PATIENCE
        while self.engine.count()[JobStatus.SUCCESSFUL] < count:
            if time.monotonic() > deadline:
                found = f"{self.engine.count()}, {self.engine.workers()}"
                raise SystemExit(f"the worker has not finished its jobs in two minutes: {found}")
            time.sleep(0.05)
        time.sleep(0.1)
        took = processor_time(self.pid) - began
        self.engine.clear()
        return took / count * 1e6


def processor_time(pid: int) -> float:
    """Seconds that the threads of a process and of its descendants have run."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    seconds = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return seconds + sum(map(processor_time, children))


def compare(
    what: str, kind: str, seconds: float, without: Callable[[], float], with_: Callable[[], float]
) -> None:
    """Call both in turns for so long, and print a row."""
    without(), with_()
    pairs: list[tuple[float, float]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(pairs) < 4:
        if len(pairs) % 2:
            after = with_()
            pairs.append((without(), after))
        else:
            pairs.append((without(), with_()))
    off, on = (min(values) for values in zip(*pairs, strict=True))
    ratios = [after / before for before, after in pairs]
    print(
        f"| {kind} | {what} | {len(pairs)} | {off:.1f} | {on:.1f} | {on / off:.3f}"
        f" | {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
        flush=True,
    )


def enqueues(site: Site) -> Callable[[], float]:
    """Microseconds of processor time of one enqueue, in blocks."""

    def block() -> float:
        with site.app.app_context():
            began = time.thread_time()
            for number in range(500):
                quiet.enqueue(number)
            return (time.thread_time() - began) / 500 * 1e6

    return block


class NoTally(counters.EnqueueTally):
    """Counts nothing."""

    def add(self, seconds: float) -> None:
        """Nothing."""

    def take(self, now: float) -> list[float]:
        """Nothing."""
        return []


def fail(site: Site, count: int) -> None:
    """So many failed jobs."""
    options = StoreOptions(
        kind="test", retention=Retention(1e6, 1e6, 10**7), places=BATCH, capacity=4
    )
    store, error = site.engine.open_store(options), Error("ValueError", "no")
    for _ in range(0, count, BATCH):
        site.fill("quiet", BATCH)
        now = time.time()
        claims: Sequence[Any] = store.exchange([], {THREADS: BATCH}).claims
        ends = [Outcome(c.seq, c.attempt, Ending.FAILED, now, now, error=error) for c in claims]
        store.exchange(ends, {})
    store.close()


def bulk(kind: str, site: Site) -> None:
    """How long enqueues take while another process runs thousands of failed jobs again."""
    fail(site, FAILED)
    site.engine.pause("default")

    def visit(is_over: Callable[[], bool]) -> list[float]:
        took = []
        with site.app.app_context():
            while not is_over():
                began = time.perf_counter()
                quiet.enqueue(1)
                took.append((time.perf_counter() - began) * 1e3)
                time.sleep(PAUSE)
        return took

    end = time.monotonic() + 3
    idle = visit(lambda: time.monotonic() > end)
    words = [sys.executable, "-m", "benchmarks.control_cost", "--as-bulk"]
    with subprocess.Popen(words, env={**os.environ, **site.env}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has imported everything
        began = time.monotonic()
        during = visit(lambda: process.poll() is not None)
        lasted = time.monotonic() - began
    for name, took in (("nothing else", idle), (f"{FAILED:,} retried in {lasted:.1f} s", during)):
        figures = (statistics.median(took), percentile(took, 0.99), max(took))
        shown = " | ".join(f"{value:.2f}" for value in figures)
        print(f"| {kind} | enqueue during: {name} | {len(took)} | {shown} |", flush=True)


def scrapes(kind: str, site: Site) -> None:
    """How long an answer to Prometheus takes."""
    client, took = site.app.test_client(), []
    for _ in range(20):
        began = time.thread_time()
        assert client.get("/offload/metrics").status_code == 200
        took.append((time.thread_time() - began) * 1e3)
    print(f"| {kind} | one answer of /offload/metrics | {statistics.median(took):.1f} ms |")


@contextmanager
def servers(kinds: Sequence[str]) -> Iterator[Any]:
    """A PostgreSQL server, if it is needed."""
    if "postgres" not in kinds:
        yield None
        return
    from postgres_server import serving_postgres

    with serving_postgres() as server:
        yield server


def measure(kind: str, folder: Path, server: Any, seconds: float, jobs: int) -> None:
    """All figures of one engine."""
    with ExitStack() as stack:
        kept = Site(kind, folder, stack, server)
        unkept = Site(kind, folder, stack, server, FLASK_OFFLOAD_KEEP_LOG="0")
        uncounted = Site(kind, folder, stack, server)
        with ExitStack() as workers:
            for site in (kept, unkept, uncounted):
                site.start_worker(workers, counts=site is not uncounted)
            for what, off, task in (
                ("log, jobs that log nothing", unkept, "quiet"),
                ("log, jobs that log a line", unkept, "logging"),
                ("counters", uncounted, "quiet"),
            ):

                def drain(site: Site, task: str = task) -> Callable[[], float]:
                    return lambda: site.drain(task, jobs)

                compare(what, kind, seconds, drain(off), drain(kept))
        uncounted.engine._enqueues = NoTally()
        compare("enqueue tally", kind, seconds / 2, enqueues(uncounted), enqueues(kept))
        scrapes(kind, kept)
        bulk(kind, unkept)


def main() -> None:
    """Measure, and print tables for docs/control.md and docs/dashboard.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control_cost")
    parser.add_argument("--seconds", type=float, default=40.0, help="for each comparison")
    parser.add_argument("--jobs", type=int, default=5000, help="that a worker drains at once")
    parser.add_argument("--engine", choices=("sqlite", "postgres"))
    given = parser.parse_args()
    kinds = [given.engine] if given.engine else ["sqlite", "postgres"]
    print("| engine | what | pairs | without, us | with, us | x, minima | x, median of pairs |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="cost-") as folder, servers(kinds) as server:
        for kind in kinds:
            measure(kind, Path(folder), server, given.seconds, given.jobs)


def work() -> None:
    """Be a worker."""
    if os.environ["COST_COUNTS"] == "False":
        counters.Tally.write = lambda *given, **more: None  # type: ignore[method-assign]
        counters.Tally.committed = lambda *given, **more: None  # type: ignore[method-assign]
    from flask.cli import main as flask

    app = "benchmarks.control_cost:create_app"
    sys.argv = ["flask", "--app", app, "offload", "worker", "--log-level", "error"]
    flask()


def retry_all() -> None:
    """Be the process of a bulk action."""
    engine = offload.state_of(create_app()).engine
    print("ready", flush=True)
    ids = matching(engine, "retry", JobQuery(status=JobStatus.FAILED))
    change_all(engine, "retry", ids)
    engine.close()


if __name__ == "__main__":
    {"--as-worker": work, "--as-bulk": retry_all}.get(sys.argv[-1], main)()
