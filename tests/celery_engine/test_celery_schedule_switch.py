"""Schedules that are disabled and enabled by hand, on the records of the Celery engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers import Redis, serving
from celery_server import make_site
from flask_offload.engine_api import NewJob, ScheduleInfo, ScheduleSpec, new_id, schedule_of
from flask_offload_celery.scheduler import tick

NAME = "nightly"
DAY = 86_400.0


@pytest.mark.processes
def test_a_disabled_schedule_makes_no_jobs_and_catches_none_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(Redis, tmp_path / "redis") as redis,
        make_site(tmp_path, monkeypatch, redis, redis) as site,
    ):
        connections, engine = site.engine.connections, site.engine
        now = connections.host.clock()
        job = NewJob(
            id=new_id(),
            task="celery_app.add",
            queue_name="default",
            priority=0,
            enqueued_at=now,
            args="[[1, 2], {}]",
        )
        spec = ScheduleSpec(NAME, "30 3 * * *", None, "UTC", 0.0, "one", job)
        info = ScheduleInfo(
            name=NAME,
            task=job.task,
            description=schedule_of(spec).description,
            last_run=None,
            last_job=None,
            next_run=None,
        )
        engine.disable_schedule(info)  # before any worker has seen it
        for days in (1, 2):
            assert tick(connections, spec, now + days * DAY) == []
        (known,) = engine.schedules()
        assert known.disabled_at is not None
        assert (known.name, known.task, known.last_run) == (NAME, job.task, None)
        engine.enable_schedule(NAME)
        assert engine.schedules()[0].disabled_at is None
        assert tick(connections, spec, now + 2 * DAY) == []
        assert len(tick(connections, spec, now + 3 * DAY)) == 1
        engine.disable_schedule(info)
        assert tick(connections, spec, now + 4 * DAY) == []
