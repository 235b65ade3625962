"""The app whose jobs wait, compute, or tell their progress: for figures about ourselves.

Routes: `/` does nothing; `/enqueue` hands the peer's task over; `/burn` starts computing jobs in a
worker, `/burn-here` in threads of this process, as the lesson does it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time

from flask import Flask, request

from benchmarks.note import note
from benchmarks.peers import BY_NAME, flask_offload_peer
from flask_offload import current_job

TOTAL = 100_000


@flask_offload_peer.offload.task
def wait(sent: float, seconds: float) -> None:
    """Wait for somebody, in a thread."""
    note(sent)
    time.sleep(seconds)


@flask_offload_peer.offload.task
async def wait_async(sent: float, seconds: float) -> None:
    """Wait for somebody, on the event loop."""
    note(sent)
    await asyncio.sleep(seconds)


def burn(seconds: float) -> None:
    """Compute, in Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))


burning = flask_offload_peer.offload.task(burn)


@flask_offload_peer.offload.task
def telling() -> tuple[float, float]:
    """Seconds for each turn of a loop, without and with telling its progress."""
    began = time.perf_counter()
    for _ in range(TOTAL):
        pass
    between = time.perf_counter()
    for done in range(TOTAL):
        current_job.progress(done, TOTAL)
    ended = time.perf_counter()
    return (between - began) / TOTAL, (ended - between) / TOTAL


def create_app() -> Flask:
    """For gunicorn, for the worker, and for the figures themselves."""
    app = Flask(__name__)
    peer = BY_NAME[os.environ["BENCH_PEER"]]
    module = peer.load()
    if peer.is_flask_offload:
        flask_offload_peer.init_app(app)
    else:
        module.prepare()

    @app.get("/")
    def index() -> str:
        return "hello"

    @app.get("/enqueue")
    def enqueue() -> str:
        module.enqueue(time.monotonic())
        return "hello"

    @app.get("/burn")
    def burn_in_worker() -> str:
        for _ in range(int(request.args["jobs"])):
            burning.enqueue(float(request.args["seconds"]))
        return "hello"

    @app.get("/burn-here")
    def burn_in_threads() -> str:
        for _ in range(int(request.args["jobs"])):
            threading.Thread(target=burn, args=[float(request.args["seconds"])]).start()
        return "hello"

    return app
