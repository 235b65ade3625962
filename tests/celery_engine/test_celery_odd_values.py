"""Odd values that tasks report, raise and return harm neither processes nor records on Celery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_app
from brokers import Server
from celery_fixtures import redis, worker_process  # noqa: F401 (fixtures)
from celery_server import CelerySite, make_site
from flask_offload import JobStatus
from flask_offload.cli.document import plain
from flask_offload_celery.pool import CeleryPool
from flask_offload_celery.worker import register_tasks
from flask_offload_celery.worker_identity import WorkerIdentity
from support import wait_until
from worker_process import Workshop


@pytest.fixture
def site(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,  # noqa: F811
) -> Iterator[CelerySite]:
    with make_site(tmp_path, monkeypatch, redis) as made:
        yield made


def test_odd_values_are_refused_in_the_task_or_carried(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    with site.worker(worker_process, "--threads", "2"):
        jobs = [celery_app.odd.enqueue(number) for number in range(len(celery_app.ODD))]
        for job in jobs:
            wait_until(lambda job=job: job.refresh().attempts or job.is_finished, 30)  # type: ignore[misc]
        (good,) = site.wait(celery_app.add.enqueue(1, 2))
        assert good.status is JobStatus.SUCCESSFUL
        for job in jobs:
            assert "CRASHED" not in [attempt.outcome for attempt in job.refresh().attempts]
            json.dumps(plain(job.progress), allow_nan=False)
        # object() and half a character: the work is done, so it is not done again
        for job in jobs[-2:]:
            assert len(site.witnessed("odd", job)) == 1
            assert job.status is JobStatus.FAILED
        site.engine.count()


@pytest.mark.parametrize("way", ["send_task", "apply_async"])
def test_arguments_of_plain_celery_are_plain_data(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
    way: str,
) -> None:
    posing = {"$": ["PosixPath", "/etc/passwd"]}
    nested = [{"a": [posing, {"$": "x"}]}]
    celery = site.engine.connections.celery
    with site.worker(worker_process), celery.connection_for_write() as connection:
        if way == "send_task":
            arguments = {"args": [posing], "kwargs": {"more": nested}}
            celery.send_task("celery_app.echo", **arguments, connection=connection)
        else:
            register_tasks(celery, CeleryPool(site.engine.connections, WorkerIdentity(None, 1)))
            task = celery.tasks["celery_app.echo"]
            task.apply_async((posing,), {"more": nested}, connection=connection)
        (line,) = site.wait_for_witness("echo")
    assert json.loads(bytes.fromhex(line[-1])) == [posing, nested]
