"""Jobs as an app finds them: `offload.jobs`, `task.find`, `count`, `health`, `job.args`."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from engine_apps import EngineApp, engine_name, site
from flask_offload import Job, JobStatus, Offload, OptionError, Task

__all__ = ["engine_name", "site"]


def make_tasks(offload: Offload) -> tuple[Task[[str], str], Task[[int], None]]:
    @offload.task
    def echo(text: str) -> str:
        return text

    @offload.task
    def fail(number: int) -> None:
        raise ValueError(f"number {number}")

    return echo, fail


def test_jobs_are_found_by_what_they_are_and_say(site: EngineApp) -> None:
    echo, fail = make_tasks(site.offload)
    red, blue = echo.using(owner="ann").enqueue("red"), echo.enqueue("BLUE")
    failed = fail.using(queue_name="other", owner="ann").enqueue(7)
    site.drain()
    jobs = site.offload.jobs

    def ids(found: list[Job]) -> list[str]:
        return [job.id for job in found]

    assert ids(jobs()) == [failed.id, blue.id, red.id], "the newest first"
    assert ids(jobs(task=echo)) == ids(jobs(task=echo.name)) == [blue.id, red.id]
    assert ids(jobs(status="FAILED")) == ids(jobs(queue_name="other")) == [failed.id]
    assert ids(jobs(owner="ann")) == [failed.id, red.id]
    assert ids(jobs(owner="ann", status=JobStatus.SUCCESSFUL)) == [red.id]
    assert ids(jobs(text="blue")) == [blue.id]
    assert ids(jobs(text="number 7")) == [failed.id]
    assert jobs(owner="eve") == []
    (found,) = jobs(text="red")
    assert found.return_value == "red", "a listed job has its result too"
    assert site.offload.count()[JobStatus.SUCCESSFUL] == 2
    with pytest.raises(ValueError, match="limit=0"):
        jobs(limit=0)


def test_pages_do_not_move_while_new_jobs_come(site: EngineApp) -> None:
    echo, _ = make_tasks(site.offload)
    old = [echo.enqueue(str(number)).id for number in range(7)]
    first = site.offload.jobs(limit=3)
    assert [job.id for job in first] == old[:3:-1]
    echo.enqueue("new")
    assert [job.id for job in site.offload.jobs(limit=3, before=first[-1])] == old[3:0:-1]
    second = site.offload.jobs(limit=3, before=first.next)
    assert [job.id for job in second] == old[3:0:-1]
    third = site.offload.jobs(limit=3, before=second.next)
    assert [job.id for job in third] == [old[0]]
    assert third.next is None


def test_arguments_are_decoded(site: EngineApp) -> None:
    @site.offload.task
    def book(when: timedelta, *, seats: int = 1) -> None: ...

    job = book.enqueue(timedelta(days=2), seats=3)
    for found in (job, site.offload.get_job(job.id), *site.offload.jobs()):
        assert (found.args, found.kwargs) == ((timedelta(days=2),), {"seats": 3})


def test_the_active_job_of_a_unique_task_is_found(site: EngineApp) -> None:
    @site.offload.task(unique=True)
    def export(user: int, kind: str = "csv") -> None: ...

    @site.offload.task(unique=lambda user: user)
    def clean(user: int) -> None: ...

    later = timedelta(hours=1)
    job = export.using(run_after=later).enqueue(7)
    clean.using(run_after=later).enqueue(7)
    assert export.find(7) == export.find(7, kind="csv") == job
    assert export.find(8) is None
    assert export.find(7, "pdf") is None
    assert clean.find(7) is not None
    job.cancel()
    assert export.find(7) is None
    done = export.enqueue(9)
    site.drain()
    assert export.find(9) is None
    assert done.refresh().is_finished


def test_find_needs_a_unique_task(site: EngineApp) -> None:
    echo, _ = make_tasks(site.offload)
    with pytest.raises(OptionError, match=r"echo.find\(\) needs unique="):
        echo.find("x")


def test_health_is_what_the_command_finds(site: EngineApp) -> None:
    found = site.offload.health()
    assert found[0].check == "configuration"
    assert {finding.level for finding in found} <= {"ok", "note", "problem"}
    result = site.app.test_cli_runner().invoke(args=["offload", "check"])
    assert found[0].message in result.output


def test_a_look_at_many_jobs_is_bounded_and_goes_on(
    site: EngineApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_offload.state.SEARCHED", 20)
    echo, _ = make_tasks(site.offload)
    rare = echo.using(run_after=timedelta(hours=1)).enqueue("rare")
    calls = [echo.using(run_after=timedelta(hours=1)).call(str(n)) for n in range(50)]
    site.offload.enqueue_many(calls)
    found = site.offload.jobs(text="rare")
    looks = 1
    while not found:
        assert found.next is not None, "it says that there may be more"
        found = site.offload.jobs(text="rare", before=found.next)
        looks += 1
    assert (found, looks) == ([rare], 3)


def test_the_jobs_of_one_owner_among_many_are_found_by_an_index(site: EngineApp) -> None:
    if site.engine.name == "inline":
        return
    echo, _ = make_tasks(site.offload)
    mine = echo.using(owner="ann").enqueue("mine")
    calls = [echo.call(str(n)) for n in range(3000)]
    for _ in range(10):
        site.offload.enqueue_many(calls)
    began = time.perf_counter()
    everything = site.offload.jobs(limit=1000)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    assert site.offload.jobs(owner="ann") == [mine]
    assert time.perf_counter() - began < whole
    assert len(everything) == 1000
