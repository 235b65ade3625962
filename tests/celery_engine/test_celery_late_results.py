"""Jobs that come due, or run, long after the broker has given their messages up: each runs once.

OFFLOAD_LATE_JOBS=1000 runs the long form.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import celery_app
from brokers import Server
from celery_fixtures import redis, worker_process  # noqa: F401 (fixtures)
from celery_server import CelerySite, make_site
from flask_offload import JobStatus
from worker_process import Workshop

VISIBLE_AFTER = 1
"""Seconds after which Redis delivers a message that was not acknowledged again. (Its
client looks every ten seconds.)"""
LONG = 11.0
JOBS = int(os.environ.get("OFFLOAD_LATE_JOBS", "200"))


@pytest.fixture
def site(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,  # noqa: F811
) -> Iterator[CelerySite]:
    with make_site(tmp_path, monkeypatch, redis) as made:
        made.settings["CELERY"] = {
            "broker_url": made.broker.url,
            "broker_transport_options": {"visibility_timeout": VISIBLE_AFTER},
        }
        yield made


def test_whatever_is_late_runs_once(site: CelerySite, worker_process: Workshop) -> None:  # noqa: F811
    later = celery_app.add.using(run_after=timedelta(seconds=2 * VISIBLE_AFTER))
    due = site.offload.enqueue_many([later.call(number, 1) for number in range(JOBS)])
    long = [celery_app.slow.enqueue(LONG) for _ in range(2)]
    with site.worker(worker_process), site.worker(worker_process):
        site.wait(*due, *long, timeout=90 + JOBS / 10)
    assert {job.status for job in (*due, *long)} == {JobStatus.SUCCESSFUL}
    assert {len(job.attempts) for job in (*due, *long)} == {1}
    starts = Counter(line[1] for line in site.witnessed("start"))
    assert starts == {job.id: 1 for job in (*due, *long)}
