"""Options of one job: `using(…)`, `expires=`, and options from the configuration of the app."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import current_app

from engine_apps import EngineApp, engine_name, site
from flask_offload import JobStatus, OptionError, current_job, from_config
from flask_offload.engines.base import JobQuery
from flask_offload.testing import drain, travel

__all__ = ["engine_name", "site"]


def test_a_job_s_own_max_attempts_count(site: EngineApp) -> None:
    @site.offload.task(max_attempts=2, backoff=0)
    def fail() -> None:
        raise ValueError

    usual, own, once = fail, fail.using(max_attempts=4), fail.using(max_attempts=1)
    jobs = [task.enqueue() for task in (usual, own, once)]
    site.drain()
    assert [len(job.refresh().attempts) for job in jobs] == [2, 4, 1]


def test_a_job_s_own_timeout_counts(site: EngineApp) -> None:
    @site.offload.task(timeout=60)
    def look() -> float | None:
        return current_job.timeout

    jobs = [look.enqueue(), look.using(timeout=timedelta(minutes=2)).enqueue()]
    site.drain()
    assert [job.refresh().return_value for job in jobs] == [60, 120]


def test_a_job_that_does_not_start_in_time_is_discarded(site: EngineApp) -> None:
    ran: list[str] = []

    @site.offload.task(expires=60)
    def note(text: str) -> None:
        ran.append(text)

    with travel(site.app) as clock:
        soon = timedelta(seconds=1)
        late = note.using(run_after=soon).enqueue("late")
        patient = note.using(run_after=soon, expires=timedelta(hours=2)).enqueue("patient")
        clock.move(timedelta(minutes=5))
        drain(site.app)
        later = note.using(run_after=timedelta(hours=1)).enqueue("later")
        clock.move(timedelta(hours=1))
        drain(site.app)
    assert ran == ["patient", "later"], "the time counts from run_after"
    assert later.refresh().status is JobStatus.SUCCESSFUL
    assert patient.refresh().status is JobStatus.SUCCESSFUL
    assert late.refresh().status is JobStatus.CANCELLED
    assert late.error is not None
    assert late.error.type == "JobExpired"


def test_a_job_that_started_in_time_may_be_retried_after_it(site: EngineApp) -> None:
    @site.offload.task(expires=60, max_attempts=3, backoff=0)
    def flaky() -> int:
        clock.move(timedelta(seconds=90))
        if current_job.attempt == 1:
            raise ConnectionError
        return current_job.attempt

    with travel(site.app) as clock:
        job = flaky.enqueue()
        drain(site.app)
    assert job.refresh().return_value == 2


def test_options_come_from_the_configuration_of_the_app_when_a_job_is_enqueued(
    site: EngineApp,
) -> None:
    @site.offload.task(
        timeout=from_config("MAIL_TIMEOUT"),
        max_attempts=from_config("MAIL_ATTEMPTS", 2),
        queue_name=lambda: current_app.config["MAIL_QUEUE"],
        backoff=0,
    )
    def send() -> None:
        raise ValueError(current_job.timeout)

    site.app.config.update(MAIL_TIMEOUT=7, MAIL_QUEUE="slow")
    first = send.enqueue()
    site.app.config.update(MAIL_TIMEOUT=timedelta(seconds=9), MAIL_ATTEMPTS=3)
    second, own = send.enqueue(), send.using(max_attempts=1, queue_name="fast").enqueue()
    site.drain()
    found = [first.refresh(), second.refresh(), own.refresh()]
    assert [job.queue_name for job in found] == ["slow", "slow", "fast"]
    assert [len(job.attempts) for job in found] == [2, 3, 1]
    assert [job.error and job.error.message for job in found] == ["7.0", "9.0", "9.0"]


def test_a_key_that_the_configuration_lacks_is_named(site: EngineApp) -> None:
    @site.offload.task(timeout=from_config("MAIL_TIMEOUT"))
    def send() -> None: ...

    with pytest.raises(OptionError, match=r"from_config\('MAIL_TIMEOUT'\).*no MAIL_TIMEOUT: set"):
        send.enqueue()
    site.app.config["MAIL_TIMEOUT"] = "soon"
    with pytest.raises(OptionError, match="timeout='soon': give seconds or a timedelta"):
        send.enqueue()


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"max_attempts": 0}, {"keep": -1}, {"expires": 0}, {"timeout": "1"}],
)
def test_options_that_can_t_be_used_are_refused_at_once(options: Any, site: EngineApp) -> None:
    @site.offload.task
    def plain() -> None: ...

    with pytest.raises(OptionError, match=next(iter(options))):
        plain.using(**options)


def test_a_job_s_own_keep_counts_however_it_ends(site: EngineApp) -> None:
    if not site.engine.flags.retention:
        return

    @site.offload.task(keep=1000)
    def end(how: str) -> None:
        if how == "fail":
            raise ValueError

    with travel(site.app) as clock:
        own = end.using(keep={"SUCCESSFUL": 60, "FAILED": 60, "CANCELLED": 60})
        brief = [own.enqueue("well"), own.enqueue("fail")]
        long = end.enqueue("well")
        drain(site.app)
        cancelled = own.enqueue("well").cancel()
        clock.move(timedelta(seconds=100))
        site.engine.prune()
        site.engine.prune(clock.seconds - 10_000)
        left = [record.id for record in site.engine.list(JobQuery())]
    assert left == [long.id], (brief, cancelled)


def test_the_request_that_enqueued_a_job_is_recorded(site: EngineApp) -> None:
    @site.offload.task
    def echo() -> None: ...

    @site.app.post("/order", endpoint="order")
    def order() -> str:
        return echo.enqueue().id

    answer = site.app.test_client().post("/order", headers={"X-Request-ID": "r-7"})
    job = site.offload.get_job(answer.text)
    assert job.enqueued_by is not None
    assert (job.enqueued_by.route, job.enqueued_by.user, job.enqueued_by.trace) == (
        "order",
        None,
        "r-7",
    )
    assert echo.enqueue().enqueued_by is None
