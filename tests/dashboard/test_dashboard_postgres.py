"""The dashboard, health and metrics on PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dashboard_site import PREFIX, Shop, act, shop
from flask_offload import JobNotFound, JobStatus
from postgres_server import shared_server

PAGES = ("/", "/jobs", "/failures", "/queues", "/schedules", "/workers", "/routes")


@pytest.fixture(scope="module", name="url")
def url_fixture(processes: None) -> Iterator[str]:
    with shared_server().database() as url:
        yield url


@pytest.fixture(name="made")
def made_fixture(tmp_path: Path, url: str) -> Iterator[Shop]:
    options = {"OFFLOAD_ENGINE": "postgres", "OFFLOAD_POSTGRES_URL": url}
    with shop(tmp_path, DEBUG=True, OFFLOAD_METRICS=True, **options) as made:
        with made.app.app_context():
            made.engine.clear()
        yield made


def text(made: Shop, path: str) -> str:
    response = made.client().get(PREFIX + path)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_data(as_text=True)


def test_every_page_without_jobs_and_with_some(made: Shop) -> None:
    for path in PAGES:
        assert text(made, path).count("<h1") == 1
    failed = made.run(-1, "sk-argument-1", note="for ada")
    for path in (*PAGES, f"/jobs/{failed.id}", "/jobs?text=for+ada", "/jobs?error=ValueError"):
        html = text(made, path)
        assert "sk-argument-1" not in html
    assert failed.id in text(made, "/jobs?text=order+-1+has")
    assert "No such jobs" in text(made, "/jobs?text=nowhere")


def test_actions(made: Shop) -> None:
    client = made.client()
    failed = [made.run(-number) for number in (1, 2, 3)]
    (name,) = made.offload.schedules
    for action in ("pause", "resume"):
        assert act(client, "/queues", action=action, name="billing").status_code == 303
    for action in ("disable", "enable", "run"):
        assert act(client, "/schedules", action=action, name=name).status_code == 303
    assert act(client, f"/jobs/{failed[0].id}", action="retry").status_code == 303
    assert act(client, f"/jobs/{failed[0].id}", action="cancel").status_code == 303
    form = {"action": "discard", "status": "FAILED"}
    assert b"2 jobs are" in act(client, "/bulk", "/queues", **form).data
    with made.app.app_context():
        assert failed[0].refresh().status is JobStatus.CANCELLED
        with pytest.raises(JobNotFound):
            failed[1].refresh()


def test_health_and_metrics(made: Shop) -> None:
    made.run(1)
    with made.app.app_context():
        made.pay.enqueue(2).cancel()
        made.pay.enqueue(3)
    response = made.client().get("/offload/health")
    assert response.status_code == 503
    assert re.search("no worker is alive", response.get_json()["problems"][0])
    data = made.client().get("/offload/metrics").get_data(as_text=True)
    found = {
        (sample.name, sample.labels.get("status")): sample.value
        for family in text_string_to_metric_families(data)
        for sample in family.samples
        if sample.labels.get("queue") == "billing" or sample.labels.get("task") == made.pay.name
    }
    assert found["offload_queue_jobs", "ready"] == 1
    assert found["offload_jobs_finished_total", "successful"] >= 1
    assert found["offload_jobs_finished_total", "cancelled"] >= 1
