"""Processes of a worker that are replaced after so many jobs, or above so much memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_offload import Job, JobStatus
from jobs_app import grow, offload, sleep_async
from jobs_server import Site, make_site
from postgres_server import PostgresServer, shared_server
from postgres_site import opened_site
from proc import alive
from support import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(scope="session", name="server")
def server_fixture(processes: None) -> PostgresServer:
    return shared_server()


def processes_of(jobs: list[Job]) -> list[int]:
    return [job.wait(40).return_value for job in jobs]


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_process_is_replaced_after_so_many_jobs(site: Site, threads: str) -> None:
    jobs = offload.enqueue_many([grow.call(0, 0.01) for _ in range(11)])
    with site.worker("--threads", threads, FLASK_OFFLOAD_WORKER_MAX_JOBS="3", HEAR="1") as worker:
        ran = Counter(processes_of(jobs))
        assert sorted(ran.values()) == [2, 3, 3, 3]
        wait_until(lambda: sum(map(alive, ran)) == 1, 20)
        assert site.witnessed().count("worker stopped") >= 3  # in an orderly way
        assert "ended" not in worker.output()
    assert all(len(job.attempts) == 1 for job in jobs)


def test_async_jobs_count_too_and_a_burst_ends(site: Site) -> None:
    jobs = offload.enqueue_many([sleep_async.call(0.01) for _ in range(5)])
    output = site.burst(FLASK_OFFLOAD_WORKER_MAX_JOBS="2").output()
    assert {job.refresh().status for job in jobs} == {JobStatus.SUCCESSFUL}
    assert output.count("is replaced after 2 jobs") == 2


def test_a_process_that_has_grown_is_replaced_between_jobs(site: Site) -> None:
    limit = 250 << 20  # a process of this app takes about 70 MiB
    with site.worker("--threads", "2", FLASK_OFFLOAD_WORKER_MAX_MEMORY=str(limit)) as worker:
        first = processes_of([grow.enqueue(1)])
        assert processes_of([grow.enqueue(1)]) == first
        slow = grow.enqueue(1, 1.0)
        wait_until(lambda: slow.refresh().status is JobStatus.RUNNING)
        assert processes_of([grow.enqueue(400)]) == first
        assert processes_of([slow]) == first, "what runs is not disturbed"
        second = processes_of([grow.enqueue(1)])
        assert second != first
        wait_until(lambda: not alive(first[0]), 20)
        assert processes_of([grow.enqueue(1)]) == second
        assert worker.popen.poll() is None


def test_the_same_on_postgresql(tmp_path: Path, server: PostgresServer) -> None:
    with server.database() as url, opened_site(tmp_path, url) as site:
        jobs = [site.enqueue("echo", n) for n in range(5)]
        with site.worker(FLASK_OFFLOAD_WORKER_MAX_JOBS="2") as worker:
            assert [job.wait(40).return_value for job in jobs] == [0, 1, 2, 3, 4]
            wait_until(lambda: worker.output().count("is replaced after 2 jobs") == 2, 20)
