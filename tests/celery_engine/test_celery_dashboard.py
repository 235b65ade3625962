"""The dashboard on the Celery engine: what its flags allow, on real servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import celery_app
from brokers import Redis, serving
from celery_server import make_site
from dashboard_site import PREFIX, act
from flask_offload import JobNotFound, JobStatus


@pytest.mark.processes
def test_the_pages_show_and_do_what_the_engine_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(Redis, tmp_path / "redis") as redis,
        make_site(tmp_path, monkeypatch, redis, redis) as site,
    ):
        site.app.debug = True
        client = site.app.test_client()
        jobs = [celery_app.add.enqueue(number, 2) for number in range(3)]
        pages = ("/", "/jobs", "/failures", "/queues", "/schedules", "/workers", "/routes")
        for path in (*pages, f"/jobs/{jobs[0].id}", "/jobs?status=READY&text=nowhere"):
            assert client.get(PREFIX + path).status_code == 200
        html = client.get(f"{PREFIX}/jobs?status=READY").get_data(as_text=True)
        found = re.findall(rf'href="{PREFIX}/jobs/([0-9a-f]+)"', html)
        assert found == [job.id for job in reversed(jobs)]
        assert b"does not say which workers" in client.get(f"{PREFIX}/workers").data
        path = f"/jobs/{jobs[0].id}"
        assert act(client, path, action="cancel").status_code == 303
        assert jobs[0].refresh().status is JobStatus.CANCELLED
        form = {"action": "discard", "status": "CANCELLED"}
        assert b"1 job is" in act(client, "/bulk", "/queues", **form).data
        with pytest.raises(JobNotFound):
            jobs[0].refresh()
        assert site.engine.discard_many([jobs[1].id, "unknown"]) == 0
