"""Whether memory, descriptors, file size and latencies stay flat over many jobs.

    python -m benchmarks.soak [--seconds 3600] [--jobs 2000000] [--cycle 10]

A worker and gunicorn run as in production. Every cycle begins with a burst, until which all earlier
jobs have ended; then single jobs are enqueued over HTTP. Meanwhile somebody has the dashboard open,
and the metrics are scraped. It ends after so many seconds or jobs, whichever comes first. Jobs are
kept for KEEP seconds, so that the file stops growing. The verdict compares the first third of the
cycles with the last one, without those in which the file still grows.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from flask import Flask

from flask_offload import JobStatus, Offload

from .services import free_port, listening, stop

KEEP = 30.0
"""Seconds that a finished job is kept."""
SINGLES = 20
"""Jobs that are enqueued one by one in each cycle."""
CHUNK = 1000
SLACK = {"enqueue_p50_ms": 1.5, "enqueue_max_ms": 3.0, "pickup_p50_ms": 1.5, "page_p50_ms": 1.5}
"""How many times the first third the last one may be. Latencies vary with the machine."""
USUAL_SLACK = 1.1
ROWS = 20

offload = Offload()


@offload.task(keep=KEEP)
def nothing(number: int) -> None:
    """Ends at once."""


def create_app() -> Flask:
    """Routes that enqueue; the dashboard and the metrics are open."""
    app = Flask(__name__)
    app.config["OFFLOAD_METRICS"] = True
    offload.init_app(app)
    offload.dashboard_access(lambda: True)

    @app.post("/one")
    def one() -> str:
        return nothing.enqueue(1).id

    @app.post("/many/<int:jobs>")
    def many(jobs: int) -> str:
        return str(len(offload.enqueue_many([nothing.call(number) for number in range(jobs)])))

    return app


@dataclass(frozen=True)
class SoakCycle:
    """What was measured in one cycle. Memory is PSS in MiB."""

    jobs: int
    drained_per_s: float
    enqueue_p50_ms: float
    enqueue_max_ms: float
    pickup_p50_ms: float
    page_p50_ms: float
    web_mib: float
    worker_mib: float
    descriptors: float
    file_mib: float


class SoakSite:
    """The programs that run, and the requests that are sent to them."""

    def __init__(self, folder: Path, port: int, programs: Sequence[int]) -> None:
        self.database = folder / "jobs.sqlite3"
        self.pids = programs
        self.pages: list[float] = []
        self._url = f"http://127.0.0.1:{port}"
        self._app = create_app()
        self._numbers = itertools.count()

    def send(self, path: str, method: str = "POST") -> tuple[float, str]:
        """Seconds that a request took, and its body."""
        began = time.perf_counter()
        request = urllib.request.Request(self._url + path, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read().decode()
        return time.perf_counter() - began, body

    def look(self) -> None:
        """Open the next page of the dashboard; every fifth time, scrape the metrics."""
        pages = ("", "jobs", "queues", "workers")
        number = next(self._numbers) % 5
        path = f"/offload/dashboard/{pages[number]}" if number < 4 else "/offload/metrics"
        self.pages.append(self.send(path, "GET")[0])

    def wait(self, patience: float = 300.0) -> None:
        """Until all jobs have ended. Raises TimeoutError."""
        give_up_at = time.monotonic() + patience
        with self._app.app_context():
            while True:
                counts = offload.engine.count()
                if not counts[JobStatus.READY] + counts[JobStatus.RUNNING]:
                    return
                if time.monotonic() > give_up_at:
                    raise TimeoutError(f"jobs have not ended: {counts}")
                time.sleep(0.05)

    def pickup(self, job_id: str) -> float:
        """Seconds from the enqueue of an ended job to its start."""
        with self._app.app_context():
            job = offload.get_job(job_id)
        assert job.started_at is not None
        return (job.started_at - job.enqueued_at).total_seconds()


def processes(leader: int) -> list[int]:
    """A program's process and those that it has started."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    return [leader, *(pid for child in children for pid in processes(int(child)))]


def pss_mib(pids: Sequence[int]) -> float:
    """Their memory; a page that several programs share counts in parts."""
    lines = [
        line
        for pid in pids
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Pss:")
    ]
    return sum(int(line.split()[1]) for line in lines) / 1024


def one_cycle(site: SoakSite, burst: int, seconds: float) -> SoakCycle:
    """A burst, then single jobs for the rest of the time."""
    end = time.monotonic() + seconds
    site.pages = []
    began = time.perf_counter()
    for first in range(0, burst, CHUNK):
        site.send(f"/many/{min(CHUNK, burst - first)}")
    site.wait()
    drained = burst / (time.perf_counter() - began)
    sent = []
    for left in range(SINGLES, 0, -1):
        sent.append(site.send("/one"))
        time.sleep(max(0.0, end - time.monotonic()) / left)
    site.wait()
    pickups = [site.pickup(job_id) for _, job_id in sent]
    enqueues = [took for took, _ in sent]
    web, worker = (processes(pid) for pid in site.pids)
    database = site.database
    files = [database, database.with_name(database.name + "-wal")]
    return SoakCycle(
        jobs=burst + SINGLES,
        drained_per_s=drained,
        enqueue_p50_ms=statistics.median(enqueues) * 1000,
        enqueue_max_ms=max(enqueues) * 1000,
        pickup_p50_ms=statistics.median(pickups) * 1000,
        page_p50_ms=statistics.median(site.pages or [0.0]) * 1000,
        web_mib=pss_mib(web),
        worker_mib=pss_mib(worker),
        descriptors=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (*web, *worker)),
        file_mib=sum(file.stat().st_size for file in files) / 2**20,
    )


@contextmanager
def looked_at(site: SoakSite) -> Iterator[None]:
    """Somebody looks at the dashboard all the time, in a thread."""
    over = threading.Event()
    errors: list[Exception] = []

    def look() -> None:
        try:
            while not over.wait(0.5):
                site.look()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def running(folder: Path) -> Iterator[SoakSite]:
    """gunicorn and a worker, on a new database."""
    os.environ["FLASK_OFFLOAD_SQLITE_PATH"] = str(folder / "jobs.sqlite3")
    os.environ["FLASK_OFFLOAD_WORKER"] = "off"
    port = free_port()
    web = [sys.executable, "-m", "gunicorn", "benchmarks.soak:create_app()", "--threads", "4"]
    web += ["--bind", f"127.0.0.1:{port}", "--log-level", "error", "--no-control-socket"]
    flask = [sys.executable, "-m", "flask", "--app", "benchmarks.soak", "offload", "worker"]
    with ExitStack() as stack:
        server = stack.enter_context(listening(web, port, folder / "web.log"))
        log = stack.enter_context((folder / "worker.log").open("ab"))
        worker = subprocess.Popen(
            [*flask, "--log-level", "error"], stdout=log, stderr=log, start_new_session=True
        )
        stack.callback(stop, worker)
        yield SoakSite(folder, port, (server, worker.pid))


def soak(cycles: list[SoakCycle], seconds: float, jobs: int, cycle: float) -> None:
    """Add all cycles; each has a part of the jobs by its part of the time."""
    burst = max(CHUNK, round(jobs * cycle / seconds) - SINGLES)
    end, left = time.monotonic() + seconds, jobs
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as site, looked_at(site):
        while left > 0 and time.monotonic() < end:
            cycles.append(one_cycle(site, min(burst, left), cycle))
            left -= cycles[-1].jobs


def show(cycles: Sequence[SoakCycle], growing: int) -> bool:
    """Print rows and the verdict; whether all is flat. growing: cycles that don't count."""
    names = [field.name for field in fields(SoakCycle)]
    width = max(map(len, names)) + 2
    print("".join(name.rjust(width) for name in ("cycle", *names)))
    for number in range(0, len(cycles), -(-len(cycles) // ROWS)):
        values = (f"{getattr(cycles[number], name):,.1f}".rjust(width) for name in names)
        print(f"{number + 1}".rjust(width) + "".join(values))
    steady = cycles[growing:]
    third = len(steady) // 3
    print(f"\n{sum(each.jobs for each in cycles):,} jobs in {len(cycles)} cycles")
    if not third:
        print("too short for a verdict")
        return False
    is_flat = True
    for name in names[2:]:
        first, last = (
            statistics.median(getattr(each, name) for each in part)
            for part in (steady[:third], steady[-third:])
        )
        grows = last > first * SLACK.get(name, USUAL_SLACK)
        is_flat = is_flat and not grows
        print(
            f"{name.rjust(width)} {first:10,.1f} -> {last:10,.1f}  {'GROWS' if grows else 'flat'}"
        )
    return is_flat


def main() -> None:
    """Run, print; the exit status is 1 unless all is flat."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--jobs", type=int, default=2_000_000)
    parser.add_argument("--cycle", type=float, default=10.0)
    given = parser.parse_args()
    cycles: list[SoakCycle] = []
    is_flat = False
    try:
        soak(cycles, given.seconds, given.jobs, given.cycle)
    finally:  # also what was measured before an error
        is_flat = show(cycles, round(2 * KEEP / given.cycle)) if cycles else False
    sys.exit(not is_flat)


if __name__ == "__main__":
    main()
