"""The app of the contract suite: the same tasks for every engine, made by the same factory in the
test and in its workers.

Tasks with options that an engine has no flag for are left out. What tasks do, they write into the
file JOURNAL, a line each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from flask import Flask, current_app, g, has_request_context
from werkzeug.datastructures import FileStorage

from flask_offload import (
    Discard,
    JobCancelled,
    JobTimeout,
    Offload,
    Retry,
    current_job,
)

mark: ContextVar[str] = ContextVar("mark", default="nothing")


def journal(text: str) -> None:
    """One line, in one write, so that no process can lose another's."""
    path = current_app.config["JOURNAL"]
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


# --- every engine runs these -------------------------------------------------------------------


def echo(value: Any) -> Any:
    return value


def note(text: str) -> None:
    journal(text)


def fail(text: str) -> None:
    raise ValueError(text)


def flaky(failures: int) -> int:
    journal(f"attempt {current_job.attempt}")
    if current_job.attempt <= failures:
        raise ConnectionError(f"attempt {current_job.attempt}")
    return current_job.attempt


def picky(kind: str) -> None:
    raise {"retried": ConnectionError, "fatal": ValueError, "hopeless": KeyError}[kind](kind)


def ask_again() -> int:
    if current_job.attempt == 1:
        raise Retry(after=0)
    return current_job.attempt


def give_up() -> None:
    raise Discard("not wanted")


def leave() -> None:
    raise SystemExit(3)


def surroundings() -> dict[str, Any]:
    found = {
        "app": current_app.name,
        "request": has_request_context(),
        "g": g.get("mark"),
        "variable": mark.get(),
        "tenant": current_job.carried.get("tenant"),
        "id": current_job.id,
        "attempt": current_job.attempt,
        "owner": current_job.owner,
        "queue": current_job.queue_name,
    }
    g.mark = "left behind"
    mark.set("left behind")
    return found


def steps(total: int) -> int:
    return sum(current_job.track(range(total), message="counting"))


def logs(lines: int, fails: bool = False) -> None:
    for number in range(1, lines + 1):
        logging.getLogger("contract").warning("line %d", number)
    print("not asked for")
    try:
        raise ValueError("caught")
    except ValueError:
        current_app.logger.exception("odd \0 \x1b[31m")
    if fails:
        raise RuntimeError("after its lines")


async def nap(text: str) -> str:
    await asyncio.sleep(0.01)
    return f"{text} in {current_app.name}, {current_job.task}"


def too_long() -> None:
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline:
            time.sleep(0.01)
            current_job.check()
    except JobTimeout:
        journal("cleaned up")
        raise


async def too_long_async() -> None:
    await asyncio.sleep(20)


def chain(left: int) -> None:
    journal(f"link {left}")
    if left:
        current_app.extensions["offload"].tasks["contract_app.chain"].enqueue(left - 1)


def uncarriable() -> object:
    return object()


def read(file: FileStorage) -> str:
    content = file.read().decode()
    return f"{file.filename}: {len(content)} bytes, {content[:3]}"


def nothing() -> None: ...


BASIC: dict[Callable[..., Any], dict[str, Any]] = {
    echo: {},
    note: {},
    fail: {},
    flaky: {"max_attempts": 3, "backoff": 0.0},
    picky: {
        "max_attempts": 2,
        "backoff": 0.0,
        "retry_on": ConnectionError,
        "discard_on": KeyError,
    },
    ask_again: {},
    give_up: {},
    leave: {},
    surroundings: {},
    steps: {},
    logs: {"max_attempts": 2, "backoff": 0.0},
    nap: {},
    too_long: {"timeout": 0.2},
    too_long_async: {"timeout": 0.2},
    chain: {},
    uncarriable: {},
    read: {},
    nothing: {},
}


# --- these need a flag -------------------------------------------------------------------------


def once(number: int) -> int:
    return number


def once_a_day(number: int, text: str) -> int:
    return number


def by_itself(text: str) -> None:
    journal(f"start {text}")
    time.sleep(0.02)
    journal(f"end {text}")


def seldom(text: str) -> None:
    journal(text)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def until_cancelled() -> None:
    journal("running")
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            time.sleep(0.01)
            current_job.check()
    except JobCancelled:
        journal("heard it")
        raise


def survive() -> int:
    journal(f"attempt {current_job.attempt}")
    if current_job.attempt == 1:
        time.sleep(60)
    return current_job.attempt


def linger(text: str, seconds: float) -> None:
    time.sleep(seconds)
    journal(text)


def brief(value: int) -> int:
    return value


def gone_soon(value: int) -> int:
    return value


def beat() -> None:
    journal("beat")


OPTIONAL: dict[str, dict[Callable[..., Any], dict[str, Any]]] = {
    "unique": {
        once: {"unique": True},
        once_a_day: {
            "unique": lambda number, text: number,
            "unique_for": 86_400,
            "unique_states": ["READY", "RUNNING", "SUCCESSFUL"],
        },
    },
    "limits": {by_itself: {"concurrency": 1}, seldom: {"rate": "2/h"}},
    "isolates": {kill_itself: {"isolate": True, "on_crash": "fail"}},
    "cancels_running": {until_cancelled: {}},
    "durable": {survive: {}, linger: {}},
    "retention": {brief: {"result_ttl": 0.1}, gone_soon: {"keep": 0}},
}


def create_app(**config: Any) -> Flask:
    """config: keys besides those of the environment (FLASK_…)."""
    app = Flask("contract_app")
    app.config.from_prefixed_env()
    app.config.update(config)
    offload = Offload()
    offload.carry("tenant")(lambda: g.get("tenant"))
    offload.init_app(app)
    flags = offload.state_of(app).engine.flags
    for function, options in BASIC.items():
        offload.task(**options)(function)
    for flag, tasks in OPTIONAL.items():
        for function, options in tasks.items() if getattr(flags, flag) else ():
            offload.task(**options)(function)
    if flags.schedules and app.config.get("BEATS"):
        offload.every(timedelta(seconds=1))(beat)

    @app.get("/enqueue/<task>")
    def enqueue(task: str) -> str:
        g.tenant = "blue"
        g.mark = "set in the request"
        return offload.tasks[f"contract_app.{task}"].enqueue().id

    return app
