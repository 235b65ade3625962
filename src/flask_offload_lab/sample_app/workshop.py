"""Routes for the experiments of Deep: work that computes, work that waits, no work."""

from __future__ import annotations

import time
from collections import Counter
from threading import Thread

from flask import Blueprint, copy_current_request_context, request

from flask_offload import current_job

from .settings import WORKSHOP, journal, offload

workshop = Blueprint("workshop", __name__, url_prefix="/workshop")

TEXT = "a nanosecond is thirty centimetres of wire and a microsecond a coil of it " * 40


@offload.task(queue_name=WORKSHOP)
def crunch(seconds: float) -> int:
    """Compute in pure Python for so long, and give how many rounds were done."""
    rounds = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        Counter(word.strip(".,").lower() for word in TEXT.split())
        rounds += 1
    return rounds


@offload.task(queue_name=WORKSHOP)
def ping(number: str) -> None:
    """Write down when this ran."""
    journal().note("ping-run", number)


@offload.task(queue_name=WORKSHOP, on_crash="retry")
def hold(name: str, seconds: float) -> None:
    """Wait, so that a running job can be killed."""
    journal().note("hold-run", name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        current_job.check()
        time.sleep(0.02)


@workshop.get("/crunch/thread")
def crunch_in_thread() -> str:
    """Compute in a thread of the web server."""
    work = copy_current_request_context(crunch)
    Thread(target=work, args=[request.args.get("seconds", 3.0, float)]).start()
    return "computing\n"


@workshop.get("/crunch/background")
def crunch_in_worker() -> str:
    """Compute in the worker."""
    crunch.enqueue(request.args.get("seconds", 3.0, float))
    return "computing\n"


@workshop.get("/ping")
def send_ping() -> str:
    """Enqueue the smallest job, and write down when."""
    number = request.args.get("number", "0")
    ping.enqueue(number)
    journal().note("ping-sent", number)
    return "enqueued\n"


@workshop.get("/hold")
def start_hold() -> str:
    """Start a job that waits."""
    hold.enqueue(request.args.get("name", "hold"), request.args.get("seconds", 4.0, float))
    return "waiting\n"
