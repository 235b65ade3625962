"""`flask offload check` on the Celery engine, with real servers and a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import celery_app
from brokers import Rabbit, Redis, Server, serving
from celery_fixtures import rabbit, worker_process  # noqa: F401 (fixtures)
from celery_server import CelerySite, make_site
from flask_offload.checks import check_all
from support import free_port
from worker_process import Workshop


@pytest.fixture
def redis(processes: None, tmp_path: Path) -> Iterator[Server]:
    """For the test alone, which may change its settings."""
    with serving(Redis, tmp_path / "redis") as server:
        yield server


@pytest.fixture
def site(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    rabbit: Server,  # noqa: F811
) -> Iterator[CelerySite]:
    with make_site(tmp_path, monkeypatch, redis, rabbit) as made:
        yield made


def found(site: CelerySite) -> dict[str, tuple[str, str]]:
    """Level and message by the name of the check; the worst of each name."""
    state = site.offload.state_of(site.app)
    order = {"problem": 0, "note": 1, "ok": 2}
    findings = sorted(check_all(state), key=lambda one: -order[one.level])
    return {one.check: (one.level, one.message) for one in findings}


def levels(site: CelerySite) -> dict[str, str]:
    return {check: level for check, (level, _) in found(site).items()}


def test_all_is_well_with_a_worker_and_a_problem_without(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    alone = found(site)
    assert alone.pop("worker") == ("problem", "none runs: start `flask offload worker`")
    assert {level for level, _ in alone.values()} == {"ok"}
    assert alone["configuration"][1].startswith("engine celery, ")
    assert "durability" not in alone["configuration"][1]
    celery_app.add.using(run_after=timedelta(hours=1)).enqueue(1, 2)
    assert "and 1 job waits:" in found(site)["worker"][1]
    with site.worker(worker_process, "--threads", "3"):
        report = found(site)
        assert {level for level, _ in report.values()} == {"ok"}
        assert "all queues, 3 at once" in report["worker"][1]
    assert levels(site)["worker"] == "problem"  # it was killed, and its record is still there


def test_jobs_that_no_worker_will_run_are_found(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    site.engine.pause("paused")
    celery_app.add.using(queue_name="lonely").enqueue(1, 2)

    @site.offload.task(name="celery_app.forgotten")
    def forgotten() -> None: ...

    forgotten.enqueue()
    del site.offload.tasks["celery_app.forgotten"]
    with site.worker(worker_process, "--queue", "mail"):
        report = found(site)
    level, message = report["queues"]
    assert level == "problem"
    assert "--queue" in message
    level, message = report["tasks"]
    assert (level, "celery_app.forgotten" in message) == ("problem", True)


def test_a_redis_that_may_forget_jobs_is_a_problem(site: CelerySite) -> None:
    site.engine.connections.store._redis.config_set("maxmemory", "100mb")
    site.engine.connections.store._redis.config_set("maxmemory-policy", "allkeys-lru")
    level, message = found(site)["records"]
    assert (level, "maxmemory-policy allkeys-lru" in message) == ("problem", True)
    site.engine.connections.store._redis.config_set("maxmemory-policy", "noeviction")
    site.engine.connections.store._redis.config_set("appendonly", "no")
    level, message = found(site)["records"]
    assert (level, "appendonly" in message) == ("note", True)


def test_servers_that_are_gone_are_reported_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    nowhere = Rabbit(tmp_path, free_port())
    with make_site(tmp_path, monkeypatch, redis, nowhere) as site:
        report = found(site)
        assert (report["broker"][0], report["records"][0]) == ("problem", "ok")
        assert "Connection refused" in report["broker"][1]
        redis.kill()
        report = found(site)
        assert (report["broker"][0], report["records"][0]) == ("problem", "problem")
        assert "can't be reached" in report["records"][1]


def test_the_command_ends_with_1_when_there_is_a_problem(site: CelerySite) -> None:
    with site.command("check") as check:
        assert check.wait(30) == 1
        assert "none runs: start `flask offload worker`" in check.output()
    with site.command("worker", "--async-concurrency", "5") as worker:
        assert worker.wait(30) == 1
        assert "--async-concurrency needs an engine with the flag 'own_worker'" in worker.output()
    with site.command("prune") as prune:
        assert prune.wait(30) == 1
        assert "delete expired jobs by themselves" in prune.output()
