"""`/offload/health` and `/offload/metrics`, and the Grafana dashboard that reads the latter."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dashboard_site import shop
from flask_offload.testing import drain
from postgres_server import shared_server
from small_site import SmallSite
from support import free_port, http_get, http_post, listening, running, wait_until

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"


def figures(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """The value of each sample, by its name and the values of its labels, sorted by name."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_come_from_the_store(tmp_path: Path) -> None:
    with shop(tmp_path, OFFLOAD_METRICS=True) as made:
        for order in (1, 2, -3):
            made.run(order)
        with made.app.app_context():
            made.pay.enqueue(5)
            made.engine.pause("billing")
        for _ in ("one process", "another"):
            response = made.client().get("/offload/metrics")
            assert response.content_type.startswith("text/plain; version=")
            found = figures(response.get_data(as_text=True))
            task = made.pay.name
            assert found["offload_jobs_finished_total", ("successful", task)] == 2
            assert found["offload_jobs_finished_total", ("failed", task)] == 1
            assert found["offload_attempts_total", ("failed", task)] == 1
            assert found["offload_attempt_duration_seconds_count", ("successful", task)] == 2
            assert found["offload_job_wait_seconds_count", (task,)] == 3
            assert found["offload_job_wait_seconds_bucket", ("+Inf", task)] == 3
            assert found["offload_queue_jobs", ("billing", "ready")] == 1
            assert found["offload_queue_paused", ("billing",)] == 1
            assert found["offload_workers", ()] == 0
            assert found["offload_oldest_job_seconds", ()] == 0  # its queue is paused


def test_jobs_that_are_cancelled_while_they_wait_are_counted(tmp_path: Path) -> None:
    with shop(tmp_path, OFFLOAD_METRICS=True) as made:
        with made.app.app_context():
            jobs = [made.pay.enqueue(order) for order in range(3)]
            jobs[0].cancel()
            assert made.engine.cancel_many([job.id for job in jobs[1:]]) == 2
        found = figures(made.client().get("/offload/metrics").get_data(as_text=True))
        assert found["offload_jobs_finished_total", ("cancelled", made.pay.name)] == 3
        assert not any(name == "offload_attempts_total" for name, _ in found)
        made.app.debug = True
        assert made.client().get("/offload/dashboard/").status_code == 200


PAID = """
from flask import Flask
from flask_offload import Offload

app = Flask("shop")
app.config.from_prefixed_env()
offload = Offload(app)

@offload.task
def pay(): ...

@app.post("/pay")
def post():
    pay.enqueue()
    return "paid"
"""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def engine_settings(processes: None, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with shared_server().database() as url:
        yield {"FLASK_OFFLOAD_ENGINE": "postgres", "FLASK_OFFLOAD_POSTGRES_URL": url}


@pytest.mark.processes
def test_enqueue_times_of_several_web_processes(
    tmp_path: Path, engine_settings: dict[str, str]
) -> None:
    site = SmallSite(tmp_path, PAID, FLASK_OFFLOAD_METRICS="true", **engine_settings)
    name = "offload_enqueue_duration_seconds"
    with ExitStack() as stack:
        origins = [stack.enter_context(_web_process(site)) for _ in range(2)]
        sent = 0

        def counted(origin: str) -> dict[tuple[str, tuple[str, ...]], float]:
            return figures(http_get(f"{origin}/offload/metrics").text)

        def has_those_of_both() -> bool:
            nonlocal sent
            sent += 1  # to each: one process alone can't count more
            for origin in origins:
                assert http_post(f"{origin}/pay").text == "paid"
            return counted(origins[0])[f"{name}_count", ()] > sent

        wait_until(has_those_of_both, 20, "the times of both processes")
        first, second = map(counted, origins)
        keys = [key for key in first if key[0].startswith(name) and "created" not in key[0]]
        assert {key: first[key] for key in keys} == {key: second[key] for key in keys}
        assert first[f"{name}_bucket", ("+Inf",)] == first[f"{name}_count", ()] <= 2 * sent
        assert first[f"{name}_sum", ()] > 0


@contextmanager
def _web_process(site: SmallSite) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]
    with running(command, env=site.environ, cwd=site.folder, ready=lambda _: listening(port)):
        yield f"http://127.0.0.1:{port}"


def test_buckets_grow_and_end_at_the_count(tmp_path: Path) -> None:
    with shop(tmp_path, OFFLOAD_METRICS=True) as made:
        for order in range(5):
            made.run(order)
        text = made.client().get("/offload/metrics").get_data(as_text=True)
    buckets = re.findall(r"offload_attempt_duration_seconds_bucket\{.*\} (\S+)", text)
    numbers = [float(number) for number in buckets]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 5


def test_metrics_are_off_until_they_are_wanted(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True) as made:
        assert made.client().get("/offload/metrics").status_code == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("Bearer wrong", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("Bearer ", 401),
        ("Bearer \N{LATIN SMALL LETTER E WITH ACUTE}", 401),
        (None, 401),
    ],
)
def test_a_token_is_asked_for(header: str | None, status: int, tmp_path: Path) -> None:
    with shop(tmp_path, OFFLOAD_METRICS="s3cret") as made:
        headers = {} if header is None else {"Authorization": header}
        assert made.client().get("/offload/metrics", headers=headers).status_code == status


def test_an_engine_gives_what_it_has(tmp_path: Path) -> None:
    with shop(tmp_path, OFFLOAD_METRICS=True, OFFLOAD_ENGINE="inline") as made:
        with made.app.app_context():
            made.pay.enqueue(1)
        found = figures(made.client().get("/offload/metrics").get_data(as_text=True))
    assert found["offload_queue_jobs", ("billing", "ready")] == 0
    assert not any(name.startswith("offload_jobs") for name, _ in found)


def test_health(tmp_path: Path) -> None:
    with shop(tmp_path, access=lambda: "read", OFFLOAD_HEALTH_MAX_WAIT=0) as made:
        client = made.client()
        response = client.get("/offload/health")
        assert response.status_code == 503
        (problem,) = response.get_json()["problems"]
        assert "no worker is alive" in problem
        made.app.extensions["offload"].dashboard_access(lambda: False)
        assert client.get("/offload/health").get_json() == {"status": "unavailable"}
    with shop(tmp_path, OFFLOAD_WORKER="thread", OFFLOAD_HEALTH_MAX_WAIT=0) as made:
        assert made.client().get("/offload/health").get_json() == {"status": "ok"}
        with made.app.app_context():
            [job] = made.engine.enqueue([made.pay.call(1).new_job])
        response = made.client().get("/offload/health")
        assert (response.status_code, response.get_json()) == (503, {"status": "unavailable"})
        drain(made.app)
        assert made.engine.get(job.id).status == "SUCCESSFUL"
        assert made.client().get("/offload/health").status_code == 200


def test_health_without_an_engine(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True, OFFLOAD_WORKER="thread") as made:
        made.engine.close()
        (tmp_path / "jobs.sqlite3").write_bytes(b"not a database" * 100)
        response = made.client().get("/offload/health")
        assert response.status_code == 503
        assert "can't be reached" in response.get_json()["problems"][0]
        response = made.client().get("/offload/dashboard/jobs")
        assert response.status_code == 503
        assert b"cannot be read" in response.data


def test_grafana_asks_for_metrics_that_exist(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(GRAFANA.read_text())
    asked = {
        name
        for panel in document["panels"]
        for target in panel["targets"]
        for name in re.findall(r"offload_\w+", target["expr"])
    }
    with shop(tmp_path, OFFLOAD_METRICS=True) as made:
        made.run(1)
        given = {name for name, _ in figures(made.client().get("/offload/metrics").text)}
    assert asked
    assert asked <= {*given, "offload_crashes_total"}
