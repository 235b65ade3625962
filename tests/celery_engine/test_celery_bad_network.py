"""Connections to Redis and RabbitMQ that are reset, and packets that get lost on the way.

OFFLOAD_LINE_SECONDS=30 runs the long form.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import celery_app
from bad_network import BadLine, bad_network
from brokers import Server
from celery_fixtures import rabbit, redis, worker_process  # noqa: F401 (fixtures)
from celery_server import CelerySite, make_site
from flask_offload import Job, JobStatus
from flask_offload.errors import EngineUnavailable
from proc import alive
from support import wait_until
from worker_process import Forked, Workshop

# kombu lets a connection that has died go without closing it
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

BOUND = 2.0
"""OFFLOAD_ENQUEUE_TIMEOUT, as it is by default."""
SLACK = 1.5
LASTS = float(os.environ.get("OFFLOAD_LINE_SECONDS", "3"))
"""Seconds of trouble."""
BROKERS = ["redis", "rabbit"] if "OFFLOAD_LINE_SECONDS" in os.environ else ["redis"]
LOSS = 0.2


@pytest.fixture(params=BROKERS, scope="module")
def broker(request: pytest.FixtureRequest) -> Server:
    """Each in turn; the records are always on Redis. The module's, as it may be started here."""
    found: Server = request.getfixturevalue(request.param)
    return found


@contextmanager
def site_by_bad_lines(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: Server,
    broker: Server,
    seed: int,
) -> Iterator[tuple[CelerySite, list[BadLine]]]:
    """A site that reaches its servers by such lines alone."""
    with (
        bad_network(records, seed) as (one, far_records),
        bad_network(broker, seed + 1) as (two, far_broker),
        make_site(folder, monkeypatch, far_records, far_broker) as site,
    ):
        yield site, [one, two]


def enqueue_for_a_while(chance: random.Random) -> Iterator[Job | None]:
    """Jobs, and None for each that was refused; each answer in time."""
    until = time.monotonic() + LASTS
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            job = celery_app.slow.enqueue(0.05)
        except EngineUnavailable:
            job = None
        assert time.monotonic() - began < BOUND + SLACK
        yield job
        time.sleep(chance.uniform(0.0, 0.1))


class Manager:
    """What systemd is to a worker: one that has ended is followed by another. A reset connection
    may be the end of one, as Celery can't go on after some of them (docs/celery.md)."""

    def __init__(self, site: CelerySite, worker_process: Workshop) -> None:  # noqa: F811
        self._site = site
        self._workshop = worker_process
        self._stack = ExitStack()
        self.workers: list[Forked] = []

    def __enter__(self) -> Manager:
        self.look()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self) -> None:
        """Start a worker if none runs."""
        if not self.workers or not alive(self.workers[-1].pid):
            self.workers.append(self._stack.enter_context(self._site.worker(self._workshop)))

    def wait(self, *jobs: Job, timeout: float) -> None:
        """Until these jobs have finished."""

        def are_finished() -> bool:
            self.look()
            return all(job.is_finished or job.refresh().is_finished for job in jobs)

        wait_until(are_finished, timeout, lambda: f"the end of {len(jobs)} jobs: {self}")

    def __str__(self) -> str:
        return "\n".join(map(str, self.workers))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("trouble", ["resets", "loss"])
def test_a_bad_line_costs_no_job_and_runs_none_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,  # noqa: F811
    broker: Server,
    worker_process: Workshop,  # noqa: F811
    trouble: str,
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with (
        site_by_bad_lines(tmp_path, monkeypatch, redis, broker, seed) as (site, lines),
        Manager(site, worker_process) as manager,
    ):
        jobs, refused = [celery_app.slow.enqueue(0.05)], 0
        site.wait(*jobs)
        for line in lines:
            if trouble == "resets":
                line.reset()  # one at least, however slow the machine
            else:
                line.loss = LOSS
        for job in enqueue_for_a_while(chance):
            refused += job is None
            jobs += [] if job is None else [job]
            if trouble == "resets" and chance.random() < 0.2:
                chance.choice(lines).reset()
            manager.look()
        for line in lines:
            line.loss = 0.0
        healed = time.monotonic()
        manager.wait(*jobs, timeout=60)
        took = time.monotonic() - healed
        resets = sum(line.resets for line in lines)
        account = site.account(jobs, f"{trouble} to {type(broker).__name__}, {resets} resets")
        print(
            f"  {refused} refused, all done {took:.1f} s after it was well again,"
            f" by {len(manager.workers)} worker(s), one after the other"
        )
    assert resets > 0 if trouble == "resets" else sum(line.late for line in lines) > 0
    assert account.statuses == {JobStatus.SUCCESSFUL: len(jobs)}, str(manager)
    assert account.lost == account.unexcused == []
    assert took < 30
    assert len(jobs) > 1
