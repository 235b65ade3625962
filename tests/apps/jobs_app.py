"""An app whose tasks misbehave in all the ways that tests need, for real servers and workers.

Its database is FLASK_OFFLOAD_SQLITE_PATH. Tasks leave traces in the file WITNESS, one line each,
written with O_APPEND so that no process can lose another's line.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, url_for
from werkzeug.datastructures import FileStorage

from flask_offload import (
    Discard,
    JobCancelled,
    JobTimeout,
    Offload,
    Retry,
    current_job,
    signals,
)

offload = Offload()


def witness(text: str) -> None:
    """One line in the witness file, in one write."""
    descriptor = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


@offload.task
def add(a: int, b: int) -> int:
    return a + b


HELD: list[bytes] = []


@offload.task
def grow(megabytes: int, seconds: float = 0.0) -> int:
    """Returns its process, which then has so much more memory."""
    HELD.append(os.urandom(1) * (megabytes << 20))
    time.sleep(seconds)
    return os.getpid()


@offload.task
def note(text: str) -> None:
    witness(text)


@offload.task
def note_slowly(text: str, seconds: float) -> None:
    """Says when it starts and when it ends."""
    witness(f"start {text} {os.getpid()} {time.time():.6f}")
    time.sleep(seconds)
    witness(f"end {text} {os.getpid()} {time.time():.6f}")


@offload.task(on_crash="fail")
def note_once(text: str, seconds: float) -> None:
    witness(f"start {text} {os.getpid()}")
    time.sleep(seconds)
    witness(f"end {text} {os.getpid()}")


@offload.task
def count_to(total: int, pause: float) -> int:
    for _ in current_job.track(range(total), message="counting"):
        time.sleep(pause)
    return total


@offload.task
def fail(text: str) -> None:
    raise ValueError(text)


@offload.task(max_attempts=3, backoff=0.05)
def fail_until(attempt: int) -> int:
    if current_job.attempt < attempt:
        raise RuntimeError(f"attempt {current_job.attempt}")
    return current_job.attempt


@offload.task
def ask_again() -> int:
    if current_job.attempt == 1:
        raise Retry(after=0.05)
    return current_job.attempt


@offload.task
def discard() -> None:
    raise Discard("not wanted any more")


@offload.task
def die(how: str) -> None:
    witness(f"die {how} {current_job.attempt}")
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(7)
    elif how == "kill":
        os.kill(os.getpid(), 9)
    elif how == "sys.exit":
        sys.exit(3)
    elif how == "close-fds":
        os.closerange(0, 1024)


@offload.task(timeout=0.3)
def listen_to_timeout() -> str:
    try:
        while True:
            time.sleep(0.02)
            current_job.check()
    except JobTimeout:
        witness("cleaned up")
        raise


@offload.task(timeout=0.3)
def ignore_timeout(seconds: float) -> None:
    witness(f"ignoring {current_job.attempt}")
    time.sleep(seconds)


@offload.task(timeout=0.3, max_attempts=2, backoff=0.0)
def ignore_timeout_once() -> int:
    if current_job.attempt == 1:
        time.sleep(60)
    return current_job.attempt


@offload.task
def wait_for_cancel() -> None:
    witness("waiting")
    try:
        while True:
            time.sleep(0.02)
            current_job.check()
    except JobCancelled:
        witness("heard it")
        raise


@offload.task
def deaf(seconds: float) -> None:
    witness("deaf")
    time.sleep(seconds)


@offload.task(isolate=True)
def alone(how: str) -> int:
    if how == "kill" and current_job.attempt == 1:
        os.kill(os.getpid(), 9)
    return os.getpid()


@offload.task
async def sleep_async(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"slept in {current_job.task}"


@offload.task(timeout=0.2)
async def sleep_too_long() -> None:
    await asyncio.sleep(60)


@offload.task
async def sleep_until_cancelled() -> None:
    witness("sleeping")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        witness("woken")
        raise


@offload.task
def resume(total: int, pause: float) -> int:
    """Goes on where an earlier attempt was interrupted."""
    first = current_job.cursor or 0
    witness(f"from {first} attempt {current_job.attempt}")
    for step in range(first, total):
        time.sleep(pause)
        witness(f"step {step}")
        current_job.checkpoint(step + 1)
    return total


@offload.task
def surroundings() -> dict[str, Any]:
    """What a task finds around it."""
    g.mark = "set in the job"
    logging.getLogger("jobs_app").warning("a line of the task")
    return {
        "url": url_for("index", _external=True),
        "carried": current_job.carried,
        "cwd": str(Path.cwd()),
        "id": current_job.id,
    }


@offload.task(concurrency=2, concurrency_key=lambda tenant, text, seconds: tenant)
def limited(tenant: str, text: str, seconds: float) -> None:
    witness(f"in {tenant} {text}")
    time.sleep(seconds)
    witness(f"out {tenant} {text}")


@offload.task(rate="3/2s")
def rated(text: str) -> None:
    witness("rated")


@offload.task(unique=True)
def only_one(text: str, seconds: float = 0.0) -> None:
    witness(f"one {text}")
    time.sleep(seconds)


@offload.task
def read_upload(upload: FileStorage) -> tuple[str | None, bytes]:
    return upload.filename, upload.read()


if "EVERY" in os.environ:

    @offload.every(timedelta(seconds=float(os.environ["EVERY"])))
    def tick() -> None:
        witness(f"tick {current_job.id}")


if "HEAR" in os.environ:

    @signals.crashed.connect
    def hear_crash(sender: object, *, job_id: str, attempt: int, reason: str, **_: object) -> None:
        witness(f"crashed {job_id} {reason} {attempt}")

    @signals.failed.connect
    def hear_failure(sender: object, *, claim: Any, outcome: Any) -> None:
        witness(f"failed {claim.id} {outcome.error.message}")

    @signals.cancelled.connect
    def hear_cancel(sender: object, *, claim: Any, outcome: Any) -> None:
        witness(f"cancelled {claim.id} {outcome.error.message}")

    @signals.worker_started.connect
    def hear_start(sender: object, *, worker: str) -> None:
        witness("worker started")

    @signals.worker_stopped.connect
    def hear_stop(sender: object, *, worker: str) -> None:
        witness("worker stopped")


@offload.carry("tenant")
def tenant() -> Any:
    return g.get("tenant")


@tenant.restore
def restore_tenant(value: str) -> None:
    g.tenant = value


@offload.task
def whose() -> tuple[str | None, dict[str, Any]]:
    return g.get("tenant"), current_job.carried


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    offload.init_app(app)

    @app.teardown_appcontext
    def leave(error: BaseException | None) -> None:
        if "mark" in g and "WITNESS" in os.environ:
            witness(f"teardown {g.mark}")

    @app.get("/")
    def index() -> str:
        return f"{os.getpid()}"

    @app.post("/add/<int:a>/<int:b>")
    def post_add(a: int, b: int) -> Response:
        return offload.accepted(add.enqueue(a, b))

    @app.post("/note/<text>/<float:seconds>")
    def post_note(text: str, seconds: float) -> Response:
        return offload.accepted(note_slowly.enqueue(text, seconds))

    return app
