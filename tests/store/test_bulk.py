"""Many jobs retried or cancelled at once, by the commands and by the engine."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result

from engine_apps import EngineApp, engine_name, site
from flask_offload import Job, JobStatus, Task
from flask_offload.admin.bulk import change_all, matching
from flask_offload.engines.base import JobQuery

__all__ = ["engine_name", "site"]


def run(site: EngineApp, *words: str, input: str | None = None) -> Result:
    return site.app.test_cli_runner().invoke(args=["offload", *words], input=input)


@pytest.fixture
def failed(site: EngineApp) -> list[Job]:
    """Five failed jobs, two of them in another queue; the repair is to empty `broken`."""
    broken = ["it is"]

    @site.offload.task(name="send")
    def send(number: int) -> None:
        if broken:
            raise ConnectionError

    jobs = [send.enqueue(n) for n in range(3)]
    jobs += [send.using(queue_name="slow", owner="ann").enqueue(n) for n in range(2)]
    site.drain()
    assert {job.refresh().status for job in jobs} == {JobStatus.FAILED}
    broken.clear()
    return jobs


def test_retry_counts_first_and_asks(site: EngineApp, failed: list[Job]) -> None:
    refused = run(site, "retry", "--status", "failed", "--queue", "slow", input="n\n")
    assert "2 jobs to retry." in refused.output
    assert refused.exit_code == 1
    assert {job.refresh().status for job in failed} == {JobStatus.FAILED}
    done = run(site, "retry", "--status", "failed", "--queue", "slow", input="y\n")
    assert "2 jobs changed." in done.output
    site.drain()
    ends = [job.refresh().status for job in failed]
    assert ends == [JobStatus.FAILED] * 3 + [JobStatus.SUCCESSFUL] * 2
    done = run(site, "retry", "--task", "send", "--yes", "--json")
    assert json.loads(done.stdout) == {"matching": 3, "changed": 3}


def test_cancel_by_owner(site: EngineApp, failed: list[Job]) -> None:
    task: Task[..., Any] = site.offload.tasks["send"]
    later = task.using(run_after=timedelta(hours=1))
    jobs = [later.using(owner=owner).enqueue(1) for owner in ("ann", "bob", "ann")]
    assert "2 jobs changed." in run(site, "cancel", "--owner", "ann", "--yes").output
    ends = [job.refresh().status for job in jobs]
    assert ends == [JobStatus.CANCELLED, JobStatus.READY, JobStatus.CANCELLED]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["retry"], "give ids, or say which jobs"),
        (["cancel", "abcdefgh", "--task", "send"], "not both"),
        (["retry", "--status", "successful"], "only jobs that are FAILED or CANCELLED"),
        (["retry", "--task", "send", "--json"], "confirm with --yes"),
    ],
)
def test_what_is_not_clear_is_refused(
    site: EngineApp, failed: list[Job], words: list[str], sentence: str
) -> None:
    result = run(site, *words)
    assert result.exit_code == 1
    assert sentence in result.output
    assert {job.refresh().status for job in failed} == {JobStatus.FAILED}


def test_none_match(site: EngineApp) -> None:
    result = run(site, "retry", "--status", "failed")
    assert (result.exit_code, result.output) == (0, "0 jobs to retry.\n")


def test_an_enqueue_does_not_wait_for_the_whole(site: EngineApp) -> None:
    if site.engine.name == "inline":
        return

    @site.offload.task
    def plain() -> None: ...

    number = 3000
    site.offload.enqueue_many([plain.call() for _ in range(number)])
    longest = 0.0
    is_over = threading.Event()

    def enqueue() -> None:
        nonlocal longest
        with site.app.app_context():
            while not is_over.is_set():
                began = time.perf_counter()
                plain.using(queue_name="other").enqueue()
                longest = max(longest, time.perf_counter() - began)
        site.engine.close()

    thread = threading.Thread(target=enqueue)
    ids = matching(site.engine, "cancel", JobQuery(queue_name="default"))
    began = time.perf_counter()
    thread.start()
    try:
        assert change_all(site.engine, "cancel", ids) == number
    finally:
        is_over.set()
        thread.join()
    whole = time.perf_counter() - began
    assert site.offload.count()[JobStatus.CANCELLED] == number
    assert longest < whole / 3, f"{longest:.3f} s of {whole:.3f} s"
