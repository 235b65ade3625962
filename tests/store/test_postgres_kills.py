"""Workers on PostgreSQL that are killed, and sessions that are ended, at any moment: every job ends
well, and none runs beside itself."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flask_offload import Job, JobStatus
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.transition import MAX_CRASHES
from postgres_server import PostgresServer, shared_server
from postgres_site import Site, opened_site
from support import kill9, wait_until

JOBS = 600
KILLS = 12
END_A_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1
"""


@pytest.fixture(scope="session")
def server(processes: None) -> PostgresServer:
    """The server of this process."""
    return shared_server()


@pytest.fixture
def site(tmp_path: Path, server: PostgresServer) -> Iterator[Site]:
    with server.database() as url, opened_site(tmp_path, url) as made:
        yield made


def _crashes(job: Job) -> int:
    return sum(attempt.outcome == Ending.CRASHED for attempt in job.attempts)


def test_kills_at_any_moment_lose_no_job(site: Site, server: PostgresServer) -> None:
    linger = site.offload.tasks["contract_app.linger"]
    jobs = site.offload.enqueue_many(linger.call(str(number), 0.01) for number in range(JOBS))
    database = site.settings["OFFLOAD_POSTGRES_URL"].rpartition("/")[2]
    chance = random.Random(1)
    with ExitStack() as stack:
        workers = [stack.enter_context(site.worker()) for _ in range(2)]
        for number in range(KILLS):
            done = len(site.lines())
            wait_until(lambda done=done: len(site.lines()) > done, 30.0, workers[0].output)  # type: ignore[misc]
            moment = time.monotonic() + chance.uniform(0.0, 0.2)
            wait_until(lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
            if number % 3 == 0:
                server.execute(END_A_SESSION, database)
            else:
                kill9(workers.pop(0).pid)
                workers.append(stack.enter_context(site.worker()))
            if len(site.lines()) > JOBS * 0.9:
                break
        wait_until(
            lambda: (
                not site.engine.count()[JobStatus.READY]
                and not site.engine.count()[JobStatus.RUNNING]
            ),
            60.0,
            workers[-1].output,
        )
    ended = [job.refresh() for job in jobs]
    unlucky = [job for job in ended if _crashes(job) == MAX_CRASHES]  # ran at three of the kills
    assert all(job.status is JobStatus.FAILED for job in unlucky)
    assert Counter(job.status for job in ended)[JobStatus.SUCCESSFUL] == JOBS - len(unlucky)
    assert len(unlucky) <= KILLS // MAX_CRASHES
    assert len(set(site.lines())) >= JOBS - len(unlucky)
    crashes = sum(_crashes(job) for job in ended)
    # a line more than jobs: its worker was killed between its last line and its outcome
    assert len(site.lines()) - JOBS <= crashes
