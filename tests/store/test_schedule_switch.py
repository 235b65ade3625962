"""Schedules that are disabled and enabled by hand, and jobs that are discarded, on each engine."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result

from engine_apps import EngineApp, engine_name, site
from flask_offload import JobNotFound, JobStatus
from flask_offload.engines.base import JobQuery
from flask_offload.testing import drain, travel

__all__ = ["engine_name", "site"]


def run(site: EngineApp, *words: str, input: str | None = None) -> Result:
    return site.app.test_cli_runner().invoke(args=["offload", *words], input=input)


def test_a_disabled_schedule_makes_no_jobs_and_catches_none_up(site: EngineApp) -> None:
    if not site.engine.flags.schedules:
        return

    @site.offload.every(timedelta(minutes=10), name="sweep")
    def sweep() -> None: ...

    def jobs() -> int:
        drain(site.app)
        return len(site.engine.list(JobQuery(task=sweep.name)))

    def row() -> Any:
        return json.loads(run(site, "schedules", "--json").stdout)[0]

    done = run(site, "disable", "sweep")  # before any worker has seen it
    assert (done.exit_code, "is disabled" in done.output) == (0, True)
    with travel(site.app) as clock:
        assert jobs() == 0
        clock.move(timedelta(hours=1))
        assert jobs() == 0
        assert row()["disabled_at"] is not None
        assert row()["next_run"] is None
        assert "never (disabled)" in run(site, "schedules").output
        assert "sweep was disabled" in run(site, "check").output
        assert "next run: in" in run(site, "enable", "sweep").output
        assert row()["disabled_at"] is None
        assert jobs() == 0
        clock.move(timedelta(minutes=11))
        assert jobs() == 1
        run(site, "disable", "sweep")
        clock.move(timedelta(hours=2))  # no worker looks meanwhile
        run(site, "enable", "sweep")
        assert jobs() == 1
        clock.move(timedelta(minutes=11))
        assert jobs() == 2


def test_run_now_and_names_that_are_mistyped(site: EngineApp) -> None:
    @site.offload.every(timedelta(hours=1), name="nightly")
    def nightly() -> None: ...

    if not site.engine.flags.schedules:
        assert "can't do this" in run(site, "run-now", "nightly").output
        return
    assert "Did you mean 'nightly'?" in run(site, "run-now", "nighty").output
    for command in ("disable", "enable"):
        result = run(site, command, "weekly report")
        assert result.exit_code == 1
        assert "there is no schedule 'weekly report'." in result.output
    assert "is in the queue default" in run(site, "run-now", "nightly").output
    (job,) = site.drain()
    assert job.refresh().status is JobStatus.SUCCESSFUL


@pytest.fixture(name="task")
def task_fixture(site: EngineApp) -> Any:
    @site.offload.task(name="shop.send")
    def send(number: int) -> int:
        if number < 0:
            raise ValueError
        return number

    return send


def test_jobs_that_have_ended_are_discarded(site: EngineApp, task: Any) -> None:
    jobs = [task.enqueue(number) for number in (-1, -2, 3)]
    site.drain()
    waits = task.using(run_after=timedelta(hours=1)).enqueue(1)
    assert "2 jobs to discard." in run(site, "discard", "--status", "failed", input="n\n").output
    assert site.engine.count()[JobStatus.FAILED] == 2
    done = run(site, "discard", "--status", "failed", "--yes", "--json")
    assert json.loads(done.stdout) == {"matching": 2, "changed": 2}
    for job in jobs[:2]:
        with pytest.raises(JobNotFound):
            site.engine.get(job.id)
    assert run(site, "discard", jobs[2].id).output == f"job {jobs[2].id} is discarded\n"
    refused = run(site, "discard", waits.id)
    assert (refused.exit_code, "is READY: cancel it first" in refused.output) == (1, True)
    assert "only jobs that are" in run(site, "discard", "--status", "ready").output
    assert [record.id for record in site.engine.list(JobQuery())] == [waits.id]
    assert site.engine.discard_many([waits.id, "unknown", "\0", "é" * 44]) == 0


def test_a_job_that_is_discarded_frees_its_key(site: EngineApp) -> None:
    @site.offload.task(unique=True, unique_states={"READY", "RUNNING", "FAILED"})
    def once(number: int) -> None:
        raise ValueError

    first = once.enqueue(1)
    site.drain()
    assert once.enqueue(1).id == first.id
    assert site.engine.discard_many([first.id, first.id]) == 1
    assert once.enqueue(1).id != first.id


def test_a_mistyped_task_is_guessed(site: EngineApp, task: Any) -> None:
    assert "Did you mean 'shop.send'?" in run(site, "jobs", "--task", "sned").output
    assert "Did you mean 'default'?" in run(site, "jobs", "--queue", "defualt").output
    assert "Did you mean" not in run(site, "jobs", "--task", "shop.send").output
    result = run(site, "discard", "--task", "send", "--status", "failed")
    assert "0 jobs to discard. Did you mean 'shop.send'?" in result.output
