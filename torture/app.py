"""The app under torture: tasks that tell the event log when they start and when they end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from flask import Flask, Response, request

from flask_offload import EngineUnavailable, Job, Offload, Task, current_job
from torture.event_log import note

offload = Offload()


@contextmanager
def logged() -> Iterator[None]:
    """Around a task's work: its first line and its last."""
    note("start", current_job.id, current_job.attempt)
    yield
    note("end", current_job.id, current_job.attempt)


def told() -> int:
    """What each task returns: a result of another attempt would be seen."""
    return current_job.attempt


@offload.task
def quick() -> int:
    with logged():
        return told()


@offload.task
def message(text: str) -> int:
    """As short, and with something to carry."""
    with logged():
        return told()


@offload.task
def slow(seconds: float) -> int:
    with logged():
        time.sleep(seconds)
        return told()


@offload.task
def telling(seconds: float) -> int:
    """Says all the time which attempt it is: see `watch` of the auditor."""
    with logged():
        for step in range(10):
            time.sleep(seconds / 10)
            current_job.progress(step, 10, f"attempt {current_job.attempt}")
        return told()


@offload.task
def until_killed() -> int:
    """Waits to be killed in its first attempt, and is done at once in the second."""
    with logged():
        if current_job.attempt == 1:
            time.sleep(60)
        return told()


@offload.task(on_crash="fail")
def careful(seconds: float) -> int:
    """Must never run twice."""
    with logged():
        time.sleep(seconds)
        return told()


@offload.task
def parent(children: int) -> int:
    """Enqueues others, so that a child of the worker writes to the database too."""
    with logged():
        for _ in range(children):
            accept(quick.enqueue())
        return told()


@offload.task(concurrency=2)
def limited(seconds: float) -> int:
    with logged():
        time.sleep(seconds)
        return told()


@offload.task(rate="200/s")
def rated() -> int:
    with logged():
        return told()


@offload.task(max_attempts=2, backoff=0.0)
def flaky() -> int:
    """Fails the first time."""
    with logged():
        if current_job.attempt == 1:
            raise RuntimeError("the first time")
        return told()


@offload.task(isolate=True)
def alone(seconds: float) -> int:
    with logged():
        time.sleep(seconds)
        return told()


@offload.task
async def asleep(seconds: float) -> int:
    with logged():
        await asyncio.sleep(seconds)
        return told()


@offload.task
def resumable(steps: int, pause: float) -> int:
    with logged():
        for step in range(current_job.cursor or 0, steps):
            time.sleep(pause)
            current_job.checkpoint(step + 1)
        return told()


def accept(job: Job) -> Job:
    """Note that the job was promised."""
    note("accepted", job.id)
    return job


def enqueue_some(chance: random.Random) -> list[Job]:
    """One call out of the mix; the jobs that were accepted, noted."""
    mix: list[tuple[int, Any]] = [
        (600, quick.enqueue),
        (100, lambda: slow.enqueue(chance.uniform(0.02, 0.2))),
        (60, lambda: careful.enqueue(chance.uniform(0.0, 0.1))),
        (50, lambda: parent.enqueue(2)),
        (40, lambda: later(quick, chance.uniform(0.05, 2.0)).enqueue()),
        (40, lambda: asleep.enqueue(chance.uniform(0.0, 0.2))),
        (30, flaky.enqueue),
        (30, lambda: limited.enqueue(chance.uniform(0.0, 0.02))),
        (30, rated.enqueue),
        (18, lambda: resumable.enqueue(5, 0.02)),
        (2, lambda: alone.enqueue(0.05)),
    ]
    weights = [weight for weight, _ in mix]
    if chance.random() < 0.02:
        jobs = offload.enqueue_many([quick.call() for _ in range(10)])
    else:
        jobs = [chance.choices([call for _, call in mix], weights)[0]()]
    return [accept(job) for job in jobs]


def later(task: Task[..., Any], seconds: float) -> Task[..., Any]:
    """The task, not before so many seconds have passed."""
    return task.using(run_after=timedelta(seconds=seconds))


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    offload.init_app(app)

    @app.get("/")
    def index() -> str:
        return str(os.getpid())

    @app.post("/quick")
    def post_quick() -> Response:
        return offload.accepted(quick.enqueue())

    @app.post("/until-killed")
    def post_until_killed() -> Response:
        return offload.accepted(until_killed.enqueue())

    @app.post("/slow/<float:seconds>")
    def post_slow(seconds: float) -> Response:
        return offload.accepted(slow.enqueue(seconds))

    @app.errorhandler(EngineUnavailable)
    def unavailable(error: EngineUnavailable) -> tuple[str, int, dict[str, str]]:
        return f"{type(error).__name__}: {error}", 503, {"Retry-After": "1"}

    @app.get("/jobs/count")
    def count() -> dict[str, int]:
        return {str(status): number for status, number in offload.engine.count().items()}

    @app.post("/slowly/<float:seconds>")
    def post_slowly(seconds: float) -> str:
        """A request that takes its time itself."""
        time.sleep(seconds)
        return request.method

    return app
