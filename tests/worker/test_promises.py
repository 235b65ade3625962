"""What the README promises, each promise seen in one run."""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from flask_offload import JobStatus
from jobs_app import add, create_app, note_slowly, offload
from jobs_server import Site, make_site
from proc import descendants
from support import kill9, wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.timeout(240)
def test_two_hundred_jobs_survive_twenty_kills(site: Site) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    jobs = site.offload.enqueue_many([note_slowly.call(f"j{n}", 0.1) for n in range(200)])
    with site.worker("--processes", "2", "--threads", "2") as worker:
        for _ in range(20):
            time.sleep(dice.uniform(0.05, 0.3))
            children = wait_until(lambda: descendants(worker.pid), 20, "a child to kill")
            kill9(dice.choice(children))
        for job in jobs:
            wait_until(lambda job=job: job.refresh().is_finished, 60)  # type: ignore[misc]
    ends = Counter(line.split()[1] for line in site.witnessed() if line.startswith("end"))
    hits = Counter(len(job.attempts) - 1 for job in jobs)
    print(f"jobs by the number of times they were hit: {sorted(hits.items())}")
    # those that were hit twice wait for the end of the storm: nothing hits them again
    assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}
    for job, name in zip(jobs, (f"j{n}" for n in range(200)), strict=True):
        crashes = sum(attempt.outcome == "CRASHED" for attempt in job.attempts)
        assert 1 <= ends[name] <= 1 + crashes  # twice only if it was running when the kill came


@pytest.mark.timeout(180)
def test_a_killed_job_starts_again_within_a_second(site: Site) -> None:
    waits = []
    with site.worker("--threads", "1"):
        for round_ in range(7):
            job = note_slowly.enqueue(f"r{round_}", 0.3)
            line = site.wait_for_witness(f"start r{round_}")[0]
            killed = time.time()
            kill9(int(line.split()[2]))
            again = site.wait_for_witness(f"start r{round_}", 2)[1]
            waits.append(float(again.split()[3]) - killed)
            job.wait(20)
    print(f"kill to new start, ms: {sorted(round(wait * 1000) for wait in waits)}")
    # the promise is one second on an idle machine; this one may be busy with other tests
    assert statistics.median(waits) < 3


@contextmanager
def _bare_insert(path: Path, level: int) -> Iterator[Callable[[], object]]:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(f"PRAGMA synchronous = {level}")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT)")
    insert = "INSERT INTO t (a, b) VALUES (?, ?)"
    yield lambda: connection.execute(insert, ("x" * 44, "y" * 60))
    connection.close()


def _ratio(first: Callable[[], object], second: Callable[[], object]) -> float:
    """The best of four: another writer to the disk often delays only one of them."""
    return min(_ratio_of_medians(first, second, 30) for _ in range(4))


def _ratio_of_medians(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> float:
    """In short rounds in turn, so that what else the machine does meets both alike."""
    times: dict[Callable[[], object], list[float]] = {first: [], second: []}
    for _ in range(rounds):
        for action, samples in times.items():
            for _ in range(20):
                began = time.perf_counter()
                action()
                samples.append(time.perf_counter() - began)
    return statistics.median(times[first]) / statistics.median(times[second])


def test_enqueueing_costs_less_than_starting_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # other tests import it, and then each enqueue carries a trace; a thread carries nothing
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    app = create_app(
        OFFLOAD_SQLITE_PATH=str(tmp_path / "jobs.sqlite3"),
        OFFLOAD_DURABILITY="process",
        OFFLOAD_WORKER="off",
    )

    def start_thread() -> None:
        threading.Thread(target=int).start()

    with app.app_context():
        ratio = _ratio(lambda: add.enqueue(1, 2), start_thread)
    offload.state_of(app).engine.close()
    print(f"enqueue / thread: {ratio:.2f}")
    assert ratio < 1


def test_the_safe_default_costs_little_more_than_a_bare_insert(tmp_path: Path) -> None:
    app = create_app(OFFLOAD_SQLITE_PATH=str(tmp_path / "jobs.sqlite3"), OFFLOAD_WORKER="off")
    with app.app_context(), _bare_insert(tmp_path / "bare.sqlite3", 2) as bare:
        ratio = _ratio(lambda: add.enqueue(1, 2), bare)
    offload.state_of(app).engine.close()
    print(f"enqueue / bare fsynced insert: {ratio:.2f}")
    assert ratio <= 1.6
