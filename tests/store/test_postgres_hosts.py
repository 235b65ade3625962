"""Four hosts, each in a network namespace of its own: a web host, two workers, a database. Cables
are pulled and put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from flask_offload import EngineUnavailable, Job, JobStatus
from flask_offload.jobs.attempt import Ending
from hosts import Hosts, hosts
from postgres_server import serving_postgres
from postgres_site import Site, opened_site
from support import Running, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(200)]

NOTICED = 30.0
"""Seconds in which a vanished host must be noticed here; some 15 on a quiet machine."""


@contextmanager
def four_hosts(folder: Path) -> Iterator[tuple[Hosts, Site, Callable[[str], Running]]]:
    """Given what starts a worker on a host, in a folder for temporary files of that host."""
    with hosts("web", "one", "two", "database") as network, ExitStack() as stack:
        stack.enter_context(network.being("web"))
        server = stack.enter_context(
            serving_postgres(network.address("database"), partial(network.command, "database"))
        )
        site = stack.enter_context(opened_site(folder, server.url))

        def start(name: str) -> Running:
            temporary = folder / name
            temporary.mkdir(exist_ok=True)
            there = partial(network.command, name)
            worker = stack.enter_context(site.worker(there, TMPDIR=str(temporary)))
            wait_until(lambda: on_hosts(site).count(name) == 1, 60.0, worker.output)
            return worker

        yield network, site, start


def on_hosts(site: Site) -> list[str]:
    """Where the workers are that the server knows to be alive."""
    return [info.host for info in site.engine.workers()]


def all_done(site: Site, jobs: list[Job], timeout: float) -> None:
    wait_until(lambda: all(job.refresh().is_finished for job in jobs), timeout)
    assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}


def test_the_jobs_of_a_vanished_host_start_on_another_and_never_run_beside_themselves(
    tmp_path: Path,
) -> None:
    with four_hosts(tmp_path) as (network, site, start):
        one = start("one")
        long = site.enqueue("survive")  # its first run takes a minute
        wait_until(lambda: site.lines() == ["attempt 1"], 20.0)
        start("two")
        network.pull("one")
        cut = time.monotonic()
        jobs = [site.enqueue("linger", f"{number}", 0.2) for number in range(8)]
        all_done(site, [*jobs, long], NOTICED)
        print(f"\nall done {time.monotonic() - cut:.1f} s after host one was cut off")
        assert [attempt.outcome for attempt in long.attempts] == [
            Ending.CRASHED,
            Ending.SUCCESSFUL,
        ]
        assert "stopp" in one.output() or "session" in one.output()  # it gave the job up by itself
        network.plug("one")
        healed = time.monotonic()
        wait_until(lambda: sorted(on_hosts(site)) == ["one", "two"], 40.0, one.output)
        print(f"host one is back {time.monotonic() - healed:.1f} s after its cable")
        more = [site.enqueue("linger", f"more {number}", 0.2) for number in range(8)]
        all_done(site, more, 40.0)
        assert site.lines().count("attempt 1") == 1


def test_the_database_host_is_cut_off_and_everything_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    with four_hosts(tmp_path) as (network, site, start):
        start("one")
        jobs = [site.enqueue("linger", f"{number}", 0.3) for number in range(12)]
        wait_until(lambda: len(site.lines()) >= 2, 20.0)
        network.pull("database")
        began = time.monotonic()
        with pytest.raises(EngineUnavailable, match=r"does not answer|can't be used"):
            site.enqueue("nothing")
        assert time.monotonic() - began < 8.0
        network.plug("database")
        wait_until(lambda: enqueued(site, jobs), 40.0)
        all_done(site, jobs, 60.0)
        assert set(site.lines()) == {f"{number}" for number in range(12)}


def enqueued(site: Site, jobs: list[Job]) -> bool:
    try:
        jobs.append(site.enqueue("nothing"))
    except EngineUnavailable:
        return False
    return True
