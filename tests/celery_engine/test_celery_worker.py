"""Celery workers: what they do with jobs that fail, hang, die, and with those of plain Celery."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import celery_app
from brokers import Server
from celery_fixtures import redis, worker_process  # noqa: F401 (fixtures)
from celery_server import COMMAND, CelerySite, make_site, stop
from flask_offload import JobStatus, PayloadError
from flask_offload_celery.pool import CeleryPool
from flask_offload_celery.worker import register_tasks
from flask_offload_celery.worker_identity import WorkerIdentity
from proc import alive, descendants
from support import APPS, kill9, running, wait_until
from worker_process import Forked, Workshop


@pytest.fixture
def site(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,  # noqa: F811
) -> Iterator[CelerySite]:
    with make_site(tmp_path, monkeypatch, redis, OFFLOAD_TIMEOUT_GRACE=0.5) as made:
        yield made


@pytest.fixture
def worker(site: CelerySite, worker_process: Workshop) -> Iterator[Forked]:  # noqa: F811
    with site.worker(worker_process) as process:
        yield process


# --- jobs that fail, hang and die ----------------------------------------------------------------


def test_a_job_that_ignores_its_timeout_is_killed_and_the_others_go_on(
    site: CelerySite, worker: Forked
) -> None:
    hung = celery_app.ignores_timeout.enqueue(60)
    other = celery_app.slow.enqueue(2)
    site.wait(hung, other)
    assert hung.status is JobStatus.FAILED
    assert hung.error is not None
    assert hung.error.type == "JobTimeout"
    assert other.status is JobStatus.SUCCESSFUL
    assert len(other.attempts) == 1


def test_handlers_of_the_app_s_logger_get_the_exception_of_a_failed_job(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    mails = site.folder / "mails"
    with site.worker(worker_process, MAILS=str(mails)):
        site.wait(celery_app.fail.enqueue("one"), celery_app.fail_alone.enqueue("two"))
    text = mails.read_text()
    for task, error in ("fail", "one"), ("fail_alone", "two"):
        assert text.count(f"MAIL flask_offload.task.celery_app.{task} ") == 1
        assert text.count(f"\nValueError: {error}\n") == 1
    assert text.count("celery_app.py") == 2  # one frame each: that of the task


def test_a_job_that_listens_can_clean_up_at_its_timeout(site: CelerySite, worker: Forked) -> None:
    (job,) = site.wait(celery_app.listening.enqueue())
    assert job.error is not None
    assert job.error.type == "JobTimeout"
    assert site.witnessed("cleaned")


def test_a_job_whose_process_dies_runs_again_at_most_three_times(
    site: CelerySite, worker: Forked
) -> None:
    once, always = celery_app.die.enqueue(1), celery_app.die.enqueue(9)
    site.wait(once, always)
    assert (once.status, once.return_value) == (JobStatus.SUCCESSFUL, 2)
    assert [tried.outcome for tried in once.attempts] == ["CRASHED", "SUCCESSFUL"]
    assert always.status is JobStatus.FAILED
    assert len(site.witnessed("start", always)) == 3
    assert always.error is not None
    assert "crash 3 of 3" in always.error.message


def test_what_must_not_run_twice_fails_when_its_process_dies(
    site: CelerySite, worker: Forked
) -> None:
    job = celery_app.slow_once.enqueue(60)
    (started,) = site.wait_for_witness("start")
    kill9(int(started[3]))
    site.wait(job)
    assert job.status is JobStatus.FAILED
    assert len(site.witnessed("start")) == 1


def test_an_isolated_job_has_a_process_of_its_own(site: CelerySite, worker: Forked) -> None:
    calm, deadly = celery_app.alone.enqueue(False), celery_app.alone.enqueue(True)
    site.wait(calm, deadly)
    assert calm.return_value in descendants(worker.pid)  # the parent is still there
    assert calm.progress is not None
    assert [tried.outcome for tried in deadly.attempts] == ["CRASHED", "SUCCESSFUL"]


def test_a_running_job_is_cancelled_and_one_that_ignores_it_is_killed(
    site: CelerySite, worker: Forked
) -> None:
    listening, napping = celery_app.until_cancelled.enqueue(60), celery_app.nap.enqueue(60)
    blocked = celery_app.slow.enqueue(60)
    site.wait_for_witness("start", 3)
    for job in (listening, napping):
        assert job.cancel().cancel_requested
    blocked.cancel(force=True)
    site.wait(listening, napping, blocked)
    assert {job.status for job in (listening, napping, blocked)} == {JobStatus.CANCELLED}
    site.wait(celery_app.add.enqueue(1, 2))  # and the worker goes on


def test_a_retry_waits_in_the_records_and_not_in_the_worker(
    site: CelerySite, worker: Forked
) -> None:
    job = celery_app.ask_again.enqueue(1.5)
    wait_until(lambda: [tried.outcome for tried in job.refresh().attempts] == ["RETRY"])
    assert (job.status, job.waiting_for) == (JobStatus.READY, "its time")
    assert site.engine.connections.broker.depth("default") == 0
    site.wait(job)
    assert job.return_value == 2


# --- stopping ------------------------------------------------------------------------------------


def test_a_stopping_worker_finishes_what_runs_and_leaves_the_rest(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    with site.worker(worker_process, "--threads", "1") as worker:
        busy, waiting = celery_app.slow.enqueue(1.0), celery_app.slow.enqueue(0)
        site.wait_for_witness("start")
        stop(worker)
    assert busy.refresh().status is JobStatus.SUCCESSFUL
    assert waiting.refresh().status is JobStatus.READY
    assert site.workers() == set()
    with site.worker(worker_process):
        site.wait(waiting)


@pytest.mark.parametrize("how", ["time", "second signal"])
def test_what_does_not_end_in_time_is_put_back_at_no_cost(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
    how: str,
) -> None:
    timeout = "0.3" if how == "time" else "30"
    job = celery_app.slow.enqueue(20)
    with site.worker(worker_process, "--drain-timeout", timeout) as worker:
        ((_, _, _, pid),) = site.wait_for_witness("start")
        worker.send(signal.SIGTERM)
        if how == "second signal":
            worker.wait_for("Warm shutdown")
            worker.send(signal.SIGTERM)
        worker.wait(15)
    wait_until(lambda: not alive(int(pid)))
    job.refresh()
    assert (job.status, [tried.outcome for tried in job.attempts]) == (
        JobStatus.READY,
        ["INTERRUPTED"],
    )
    assert site.engine.get(job.id).crashes == 0


def test_a_resumable_job_goes_on_where_a_deploy_interrupted_it(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    job = celery_app.steps.enqueue(12, 0.15)
    with site.worker(worker_process) as worker:
        site.wait_for_witness("step-2")
        stop(worker)
    assert job.refresh().status is JobStatus.READY
    with site.worker(worker_process):
        site.wait(job)
    steps = [line[0] for line in site.witnessed() if line[0].startswith("step-")]
    assert steps == [f"step-{number}" for number in range(12)]


@pytest.mark.parametrize("dies", [False, True], ids=["attempts fail", "a process dies"])
def test_a_step_is_done_once_over_all_attempts(
    site: CelerySite, worker: Forked, dies: bool
) -> None:
    (job,) = site.wait(celery_app.charges.enqueue(dies))
    assert job.status is JobStatus.SUCCESSFUL, job.error
    assert job.return_value == [{"amount": 7, "note": "ü"}, None]
    done = [line[0] for line in site.witnessed()]
    assert done == ["charged", "nothing"]  # neither a crash nor a failure repeats them


def test_a_signal_to_the_whole_group_does_not_kill_running_jobs(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    job = celery_app.slow.enqueue(1.0)
    with site.worker(worker_process) as worker:
        site.wait_for_witness("start")
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait()
    assert job.refresh().status is JobStatus.SUCCESSFUL
    assert len(job.attempts) == 1


# --- queues and tasks that come late -------------------------------------------------------------


def test_a_queue_that_is_new_is_served_soon(site: CelerySite, worker: Forked) -> None:
    job = celery_app.add.using(queue_name="brand.new").enqueue(1, 2)
    site.wait(job)
    assert job.queue_name == "brand.new"


def test_a_worker_may_serve_some_queues_only(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    mail, other = (
        celery_app.add.using(queue_name="mail").enqueue(1, 1),
        celery_app.add.enqueue(1, 1),
    )
    with site.worker(worker_process, "--queue", "mail"):
        site.wait(mail)
        time.sleep(1.0)  # time in which it could have taken the other
        assert other.refresh().status is JobStatus.READY


def test_a_task_that_this_app_does_not_have_waits_for_a_worker_that_has_it(
    site: CelerySite,
    worker: Forked,
    worker_process: Workshop,  # noqa: F811
) -> None:
    @site.offload.task(name="celery_app.not_yet")
    def not_yet() -> None: ...

    job = not_yet.enqueue()
    del site.offload.tasks["celery_app.not_yet"]
    worker.wait_for("no task celery_app.not_yet in this app")
    job.refresh()
    assert (job.status, job.waiting_for) == (JobStatus.READY, None)
    assert job.attempts == []


def test_a_plain_function_that_a_view_enqueues_is_found(site: CelerySite, worker: Forked) -> None:
    job = site.offload.task(celery_app.double).enqueue(21)
    del site.offload.tasks["celery_app.double"]
    site.wait(job)
    assert job.return_value == 42


def test_no_log_line_holds_arguments_whatever_a_message_is_like(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    secret = "hunter-two"

    @site.offload.task(name="celery_app.not_here")
    def not_here(text: str) -> None: ...

    dynamic = site.offload.task(celery_app.triple)
    with site.worker(worker_process, "--log-level", "debug") as worker:
        job = dynamic.enqueue(secret)
        del site.offload.tasks["celery_app.triple"]
        not_here.enqueue(secret)
        del site.offload.tasks["celery_app.not_here"]
        broker = site.engine.connections.broker
        for body in ("{" + secret, f'[["{secret}"], 5]'):
            with broker._pool().acquire(block=True) as producer:
                producer.publish(
                    body,
                    routing_key="default",
                    declare=[broker.queue("default")],
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers={"offload": 1, "id": "odd", "task": "celery_app.add"},
                )
        site.wait(job)
        worker.wait_for("no task celery_app.not_here in this app")
        worker.wait_for("the message of job odd can't be read")
        site.wait(celery_app.add.enqueue(1, 1))  # the worker goes on
        printed = worker.output()
    assert job.return_value == secret * 3
    assert secret not in printed
    assert "unregistered" not in printed


# --- plain Celery --------------------------------------------------------------------------------


def test_what_plain_celery_sends_runs_is_tried_again_and_answers(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    url = site.broker.url
    site.settings["CELERY"] = {"broker_url": url, "result_backend": url}
    with (
        site.worker(worker_process),
        running([sys.executable, APPS / "plain_celery_app.py", url]) as client,
    ):
        assert client.wait(60) == 0, str(client)
        answers = json.loads(client.output().splitlines()[-1])
    jobs = {name: site.offload.get_job(call["id"]) for name, call in answers.items()}
    assert answers["sent"]["answer"] == jobs["sent"].return_value == 3
    assert jobs["sent"].origin == "celery"
    assert (answers["failed"]["status"], answers["failed"]["answer"]) == (
        "FAILURE",
        "JobFailed: ValueError: no",
    )
    assert jobs["failed"].status is JobStatus.FAILED
    assert answers["chained"]["answer"] == 13  # its first link was tried three times before
    first = site.offload.get_job(answers["chained"]["parent"])
    assert [tried.outcome for tried in first.attempts] == ["RETRY", "RETRY", "SUCCESSFUL"]
    assert answers["discarded"]["status"] == "REVOKED"
    assert jobs["discarded"].status is JobStatus.CANCELLED


def test_celerys_own_calls_check_their_arguments_and_run_here_and_now(site: CelerySite) -> None:
    connections = site.engine.connections
    register_tasks(connections.celery, CeleryPool(connections, WorkerIdentity(None, 1)))
    tasks = connections.celery.tasks
    with pytest.raises(PayloadError):
        tasks["celery_app.add"].delay(1)
    with pytest.raises(ValueError, match="here and now"):
        tasks["celery_app.fail"]("here and now")


# --- the command ---------------------------------------------------------------------------------


def test_the_command_starts_celery_where_the_engine_is_celery(site: CelerySite) -> None:
    job = celery_app.add.using(run_after=timedelta(seconds=0.2)).enqueue(2, 2)
    with site.command("worker", "--threads", "2") as worker:
        site.wait(job)
        assert worker.stop() == 0
    assert job.return_value == 4


def test_unsafe_settings_of_the_app_are_reported_and_kept(
    site: CelerySite,
    worker_process: Workshop,  # noqa: F811
) -> None:
    site.settings["CELERY"] = {
        "broker_url": site.broker.url,
        "worker_prefetch_multiplier": 4,
        "accept_content": ["json", "pickle"],
        "broker_transport_options": {"visibility_timeout": 0.5},
    }
    command = (*COMMAND, "worker", "--in-this-process")
    with worker_process.flask(*command, env=site.env, cwd=site.folder) as worker:
        for setting in ("worker_prefetch_multiplier", "accept_content", "visibility_timeout"):
            worker.wait_for(f"{setting} = ")
