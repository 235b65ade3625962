"""The app of the Celery tests; served and worked by real processes.

Its settings come from the environment (FLASK_…). Tasks leave traces in the file WITNESS, one line
each: what they did, the id of their job, the number of the attempt, their process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from flask import Flask, Response, current_app, g

from flask_offload import Discard, JobTimeout, Offload, Retry, current_job

offload = Offload()


def witness(what: str) -> None:
    """One line in the witness file, in one write."""
    line = f"{what} {current_job.id} {current_job.attempt} {os.getpid()}\n"
    descriptor = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@offload.task
def add(a: int, b: int) -> int:
    witness("start")
    return a + b


@offload.task
def slow(seconds: float) -> str:
    """Leaves a trace when it starts and when it ends."""
    witness("start")
    time.sleep(seconds)
    witness("end")
    return current_job.id


@offload.task(on_crash="fail")
def slow_once(seconds: float) -> None:
    witness("start")
    time.sleep(seconds)
    witness("end")


@offload.task
def die(times: int, signal: int = 9) -> int:
    """Kills its process in the first `times` attempts."""
    witness("start")
    if current_job.attempt <= times:
        os.kill(os.getpid(), signal)
        time.sleep(60)
    return current_job.attempt


@offload.task(max_attempts=4, backoff=0.0)
def fail_until(attempt: int) -> int:
    witness("start")
    if current_job.attempt < attempt:
        raise RuntimeError(f"attempt {current_job.attempt}")
    return current_job.attempt


@offload.task
def fail(text: str) -> None:
    raise ValueError(text)


@offload.task
def ask_again(after: float) -> int:
    if current_job.attempt == 1:
        raise Retry(after=after)
    return current_job.attempt


@offload.task(timeout=0.5)
def ignores_timeout(seconds: float) -> None:
    """Blocks without looking at its timeout."""
    witness("start")
    time.sleep(seconds)


@offload.task(timeout=0.3)
def listening() -> None:
    try:
        while True:
            time.sleep(0.02)
            current_job.check()
    except JobTimeout:
        witness("cleaned up")
        raise


@offload.task
def until_cancelled(seconds: float) -> None:
    witness("start")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)
        current_job.check()


@offload.task
async def nap(seconds: float) -> str:
    witness("start")
    await asyncio.sleep(seconds)
    return current_app.name


@offload.task
def steps(total: int, pause: float) -> int:
    """Goes on where an earlier attempt was interrupted."""
    witness("start")
    for step in range(current_job.cursor or 0, total):
        time.sleep(pause)
        witness(f"step-{step}")
        current_job.progress(step + 1, total, "stepping")
        current_job.checkpoint(step + 1)
    return total


@offload.task(max_attempts=3, backoff=0.0)
def charges(dies: bool) -> list[Any]:
    """Two steps, in three attempts that fail; or the first one dies."""
    first = current_job.once("charge", witnessed, "charged", {"amount": 7, "note": "ü"})
    if dies and current_job.attempt == 1:
        os.kill(os.getpid(), 9)
    again = current_job.once("nothing", witnessed, "nothing", None)
    if current_job.attempt < 3:
        raise ValueError("not yet")
    return [first, again]


def witnessed(what: str, value: Any) -> Any:
    """The value."""
    witness(what)
    return value


@offload.task(isolate=True)
def alone(deadly: bool) -> int:
    witness("start")
    current_job.progress(1, 2)
    if deadly and current_job.attempt == 1:
        os.kill(os.getpid(), 9)
    return os.getppid()


@offload.task
def echo(value: Any, more: Any = None) -> None:
    """Writes down, as hexadecimal JSON, what has arrived; another type is no JSON."""
    line = f"echo - - {json.dumps([value, more]).encode().hex()}\n"
    with open(os.environ["WITNESS"], "a") as file:
        file.write(line)


@offload.task(isolate=True)
def fail_alone(text: str) -> None:
    raise ValueError(text)


ODD: list[Callable[[], Any]] = [
    lambda: current_job.progress("5"),  # type: ignore[arg-type]
    lambda: current_job.progress(Decimal(1), Decimal("2.5"), ["a"]),  # type: ignore[arg-type]
    lambda: current_job.progress(10**400, 2),
    lambda: current_job.progress(float("inf"), float("nan")),
    lambda: current_job.progress(1, 2, "\ud800 \0" + "x" * 100_000),
    lambda: current_job.checkpoint({"a": [10**400, float("inf")]}),
    lambda: _raise(Retry(after=10**400)),
    lambda: _raise(Retry(after="soon")),  # type: ignore[arg-type]
    lambda: _raise(ValueError("\ud800\0")),
    lambda: object(),
    lambda: "\ud800",
]


def _raise(error: Exception) -> None:
    raise error


@offload.task(max_attempts=3, backoff=0.0)
def odd(number: int) -> Any:
    witness("odd")
    return ODD[number]()


@offload.task(unique=True, keep={"CANCELLED": 60})
def once(number: int) -> int:
    witness("start")
    return number


@offload.task
def discard() -> None:
    raise Discard("not needed")


def double(number: int) -> int:
    """Not a task until a test declares it as one."""
    return 2 * number


def triple(text: str) -> str:
    """The same."""
    return 3 * text


@offload.task
def surroundings() -> dict[str, Any]:
    return {"app": current_app.name, "tenant": g.get("tenant"), "owner": current_job.owner}


@offload.carry("tenant")
def tenant() -> Any:
    return g.get("tenant")


@tenant.restore
def restore_tenant(value: str) -> None:
    g.tenant = value


def create_app(**config: Any) -> Flask:
    """config: keys besides those of the environment."""
    app = Flask("celery_app")
    app.config.from_prefixed_env()
    app.config.update(config)
    if app.config.get("BEATS") and "celery_app.beat" not in offload.tasks:
        offload.every(timedelta(seconds=1), name="celery_app.beat")(beat)
    offload.init_app(app)
    if "MAILS" in os.environ:
        mails = logging.FileHandler(os.environ["MAILS"], delay=True)
        mails.setFormatter(logging.Formatter("MAIL %(name)s %(message)s"))
        mails.setLevel(logging.ERROR)
        app.logger.addHandler(mails)

    @app.get("/")
    def index() -> str:
        return "up"

    @app.post("/slow/<float:seconds>")
    def post_slow(seconds: float) -> Response:
        return offload.accepted(slow.enqueue(seconds))

    return app


def beat() -> None:
    witness("beat")
