"""Steps that are done once, and what is called when a job has failed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine_apps import EngineApp, engine_name, site
from flask_offload import (
    Job,
    JobStatus,
    PayloadError,
    StepTooLarge,
    current_job,
)
from small_site import SmallSite
from support import wait_until

__all__ = ["engine_name", "site"]


# --- once --------------------------------------------------------------------------------------


def test_a_step_is_done_once_however_often_the_job_runs(site: EngineApp) -> None:
    charged: list[int] = []
    keys: set[str] = set()

    def charge(order: int, *, currency: str) -> dict[str, object]:
        charged.append(order)
        return {"receipt": order * 10, "currency": currency}

    @site.offload.task(max_attempts=4, backoff=0)
    def order(number: int) -> object:
        receipt = current_job.once("charge", charge, number, currency="EUR")
        keys.add(current_job.key("charge"))
        if current_job.attempt < 3:
            raise ConnectionError
        return receipt

    first, second = order.enqueue(7), order.enqueue(8)
    site.drain()
    assert first.refresh().return_value == {"receipt": 70, "currency": "EUR"}
    assert second.refresh().return_value == {"receipt": 80, "currency": "EUR"}
    assert charged == [7, 8]
    assert len(keys) == 2, "one of each job"
    assert not any(job.id[12:] in key for key in keys for job in (first, second))


def test_a_step_of_an_async_task_is_awaited(site: EngineApp) -> None:
    sent: list[str] = []

    async def send(text: str) -> int:
        await asyncio.sleep(0)
        sent.append(text)
        return len(text)

    @site.offload.task(max_attempts=2, backoff=0)
    async def notify() -> int:
        length = await current_job.once("send", send, "hello")
        if current_job.attempt == 1:
            raise ConnectionError
        return length

    job = notify.enqueue()
    site.drain()
    assert (job.refresh().return_value, sent) == (5, ["hello"])


def test_a_step_that_raises_is_not_done(site: EngineApp) -> None:
    tries: list[int] = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return len(tries)

    @site.offload.task(max_attempts=2, backoff=0)
    def call() -> int:
        return current_job.once("call", flaky)

    job = call.enqueue()
    site.drain()
    assert job.refresh().return_value == 2


@pytest.mark.parametrize(
    ("result", "error"), [("x" * 100_001, StepTooLarge), (object(), PayloadError)]
)
def test_a_step_whose_result_can_t_be_stored_is_not_repeated(
    site: EngineApp, result: object, error: type[Exception]
) -> None:
    done: list[object] = []
    caught: list[Exception] = []

    def effect() -> object:
        done.append(result)
        return result

    @site.offload.task(max_attempts=3, backoff=0)
    def work() -> None:
        try:
            current_job.once("effect", effect)
        except PayloadError as refused:
            caught.append(refused)
            raise

    work.enqueue()
    site.drain()
    assert len(done) == 1
    assert len(caught) == 3
    assert type(caught[0]) is error
    assert "the result of the step 'effect'" in str(caught[-1])


def test_a_name_that_can_t_be_used_is_refused(site: EngineApp) -> None:
    @site.offload.task
    def work(name: str) -> None:
        current_job.once(name, int)

    jobs = [work.enqueue(name) for name in ("", "x" * 201, "a\0b")]
    site.drain()
    for job in jobs:
        error = job.refresh().error
        assert error is not None
        assert (error.type, error.message[:13]) == ("ValueError", "a step's name")


def test_a_plain_call_just_calls(site: EngineApp) -> None:
    @site.offload.task
    def work() -> tuple[int, str]:
        return current_job.once("one", int, "1"), current_job.key("one")

    (number, key), (_, other) = work(), work()
    assert number == 1
    assert key != other


# --- on_failure --------------------------------------------------------------------------------


def test_on_failure_is_called_with_the_job_as_it_ended(site: EngineApp) -> None:
    seen: list[tuple[str, JobStatus, str, tuple[object, ...]]] = []

    def tell(job: Job) -> None:
        assert job.error is not None
        seen.append((job.id, job.status, job.error.message, job.args))

    @site.offload.task(max_attempts=2, backoff=0, on_failure=tell, queue_name="mail")
    def send(text: str) -> None:
        raise ConnectionError(f"attempt {current_job.attempt}")

    job = send.enqueue("hello")
    site.drain()
    assert seen == [(job.id, JobStatus.FAILED, "attempt 2", ("hello",))]
    (follower,) = site.offload.jobs(task="flask_offload.on_failure")
    assert (follower.status, follower.queue_name, follower.origin) == (
        JobStatus.SUCCESSFUL,
        "mail",
        "on_failure",
    )


def test_on_failure_is_not_called_for_other_ends(site: EngineApp) -> None:
    called: list[str] = []

    @site.offload.task(on_failure=lambda job: called.append(job.id), max_attempts=2, backoff=0)
    def work(how: str) -> None:
        if how == "retry" and current_job.attempt == 1:
            raise ConnectionError

    work.enqueue("well")
    work.enqueue("retry")
    site.drain()
    assert called == []


def test_an_on_failure_that_fails_is_tried_again(site: EngineApp) -> None:
    tries: list[str] = []

    async def tell(job: Job) -> None:
        tries.append(job.id)
        if len(tries) < 3:
            raise ConnectionError

    @site.offload.task(on_failure=tell)
    def fail() -> None:
        raise ValueError

    job = fail.enqueue()
    site.drain()
    assert tries == [job.id] * 3


SHOP = """
import os, signal, time
from flask import Flask
from flask_offload import Offload, current_job

app, offload = Flask(__name__), Offload()

def note(text):
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(text + "\\n")

def tell(job):
    note(f"failed {job.task} {job.status} {job.error.type}")

@offload.task(on_failure=tell, on_crash="fail")
def crash():
    os.kill(os.getpid(), signal.SIGKILL)

@offload.task(on_failure=tell)
def endless():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

@offload.task
def order():
    current_job.once("charge", note, "charged")
    if current_job.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    note("done")

app.config.from_prefixed_env()
offload.init_app(app)
"""


@pytest.mark.processes
def test_crashes_and_forced_stops_are_failures_and_done_steps_survive_them(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    shop = SmallSite(tmp_path, SHOP, JOURNAL=str(journal), FLASK_OFFLOAD_TIMEOUT_GRACE="0.2")

    def lines() -> list[str]:
        return journal.read_text().splitlines() if journal.exists() else []

    with shop.worker():
        shop.enqueue("order")
        wait_until(lambda: "done" in lines(), 30, "the job ran again")
        with shop.app.app_context():
            endless = shop.offload.task(name="shop.endless")(lambda: None)
            endless.using(timeout=0.3).enqueue()
        shop.enqueue("crash", on_crash="fail")
        wait_until(lambda: len(lines()) == 4, 30, "both failures are reported")
    shop.offload.state_of(shop.app).engine.close()
    assert lines()[:2] == ["charged", "done"]
    assert sorted(lines()[2:]) == [
        "failed shop.crash FAILED WorkerDied",
        "failed shop.endless FAILED JobTimeout",
    ]
