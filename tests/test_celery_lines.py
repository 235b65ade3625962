"""Connections to Redis and RabbitMQ that are reset, and packets that get lost on the way.

OFFLOAD_LINE_SECONDS=30 runs the long form.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import celery_app
from bad_line import BadLine, bad_line
from brokers import Server
from celery_fixtures import rabbit, redis, workshop  # noqa: F401 (fixtures)
from celery_site import CelerySite, make_site
from flask_offload import Job, JobStatus
from flask_offload.errors import EngineUnavailable
from workshop import Workshop

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
        bad_line(records, seed) as (one, far_records),
        bad_line(broker, seed + 1) as (two, far_broker),
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


def _state_of(site: CelerySite) -> str:
    """Where messages may be."""
    ledger, broker = site.engine.office.ledger, site.engine.office.broker
    known = [("ZRANGE", name, 0, 9, "WITHSCORES") for name in ("unsent", "sent:default|2", "due")]
    return f"at {time.time()}: {known} {ledger.ask_all(known)}; {broker.depth('default')} messages"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("trouble", ["resets", "loss"])
def test_a_bad_line_costs_no_job_and_runs_none_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,  # noqa: F811
    broker: Server,
    workshop: Workshop,  # noqa: F811
    trouble: str,
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with (
        site_by_bad_lines(tmp_path, monkeypatch, redis, broker, seed) as (site, lines),
        site.worker(workshop) as worker,
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
        for line in lines:
            line.loss = 0.0
        healed = time.monotonic()
        try:
            site.wait(*jobs, timeout=60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_state_of(site)}\n{worker}") from error
        took = time.monotonic() - healed
        resets = sum(line.resets for line in lines)
        account = site.account(jobs, f"{trouble} to {type(broker).__name__}, {resets} resets")
        print(f"  {refused} refused, all done {took:.1f} s after it was well again")
    assert resets > 0 if trouble == "resets" else sum(line.late for line in lines) > 0
    assert account.statuses == {JobStatus.SUCCESSFUL: len(jobs)}, str(worker)
    assert account.lost == account.unexcused == []
    assert took < 30
    assert len(jobs) > 1
