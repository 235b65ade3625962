"""Jobs of a transaction on the Celery engine: while Redis is down, and of a unique task."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import Redis, Server, serving
from flask_offload import JobStatus
from signup_app import Signup, signup
from support import wait_until

pytestmark = [
    pytest.mark.processes,
    # kombu lets a connection that has died go without closing it
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def redis(processes: None, tmp_path: Path) -> Iterator[Server]:
    """For the test alone, which may kill it."""
    with serving(Redis, tmp_path / "redis") as server:
        yield server


@pytest.fixture
def site(redis: Server, tmp_path: Path) -> Iterator[Signup]:
    config: dict[str, Any] = {
        "TESTING": False,
        "OFFLOAD_ENGINE": "celery",
        "CELERY": {"broker_url": redis.url},
        "OFFLOAD_CELERY_RECORDS": redis.url,
        "OFFLOAD_CELERY_PREFIX": f"{uuid.uuid4().hex[:8]}:",
    }
    with signup(f"sqlite:///{tmp_path / 'app.sqlite3'}", tmp_path, **config) as made:
        yield made


def _rows(site: Signup) -> int:
    transactions: Any = site.state.transactions
    return int(transactions._outbox.waiting(site.db.engine)[0])


def test_a_commit_while_redis_is_down_is_relayed_later(site: Signup, redis: Server) -> None:
    site.add("ann")
    site.welcome.enqueue("ann")
    site.db.session.rollback()
    redis.kill()
    site.add("bob")
    jobs = [site.welcome.enqueue(f"bob {number}") for number in range(3)]
    site.db.session.commit()
    assert _rows(site) == 3
    redis.start()
    wait_until(lambda: _rows(site) == 0, 60, "the relay")
    found = site.state.engine.count()
    assert found[JobStatus.READY] == sum(found.values()) == 3
    assert [job.id for job in site.jobs()] == [job.id for job in jobs]


def test_an_id_is_relayed_once_even_if_its_record_is_gone(site: Signup) -> None:
    new = site.welcome.call("ann").new_job
    engine = site.state.engine
    assert not engine.was_relayed(new.id)
    assert [found.id for found in engine.relay([new], float("inf"))] == [new.id]
    assert engine.was_relayed(new.id)
    engine.cancel(new.id)
    assert engine.discard_many([new.id]) == 1
    assert engine.relay([new], float("inf")) == []
    engine.forget_relayed([new.id])
    assert engine.relay([new], float("inf")) == []  # by a process that had read it before
    assert sum(engine.count().values()) == 0


def test_unique_jobs_that_the_relay_compares(site: Signup) -> None:
    first, second = (site.once.call("ann").new_job for _ in range(2))
    site.state.engine.relay([first, second], float("inf"))
    assert site.offload.get_job(first.id).status is JobStatus.READY
    cancelled = site.offload.get_job(second.id)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.error is not None
    assert first.id in cancelled.error.message
