"""What clients that wait for a job cost somebody who wants another page, on one sync worker.

    python -m benchmarks.polling [--clients 4] [--rounds 5] [--seconds 1.5] [--json]

The clients poll as `<offload-job>` does: with the ETag of the last answer, as often as Retry-After
says; their job reports progress all the time, so that most answers are new. Each round times the
same other page alone and with the clients, in turns, so that a machine that speeds up or slows
down does so for both. p50 over all rounds. Also: what one poll takes, with news and without (304).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response

from flask_offload import Offload, current_job

SEED = 5

offload = Offload()


@offload.task
def long_job() -> None:
    """Reports progress until it is cancelled."""
    done = 0
    while True:
        done += 1
        current_job.progress(done, 1_000_000, "working")
        time.sleep(0.05)


@offload.task
def silent_job() -> None:
    """Says nothing until it is cancelled."""
    while True:
        time.sleep(0.05)
        current_job.check()


def create_app() -> Flask:
    """A bystander's page, and jobs to wait for."""
    app = Flask(__name__)
    offload.init_app(app)

    @app.get("/")
    def index() -> str:
        return "bystander"

    @app.post("/long")
    def long() -> Response:
        return offload.accepted(long_job.enqueue())

    @app.post("/silent")
    def silent() -> Response:
        return offload.accepted(silent_job.enqueue())

    return app


@contextmanager
def served() -> Iterator[int]:
    """The app behind gunicorn's one sync worker; gives the port."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        handle = listener.fileno()
        command = [sys.executable, "-m", "gunicorn", "benchmarks.polling:create_app()"]
        command += ["--bind", f"fd://{handle}", "--log-level", "error", "--no-control-socket"]
        worker = [sys.executable, "-m", "flask", "--app", "benchmarks.polling", "offload", "worker"]
        worker += ["--log-level", "error"]
        database = {"FLASK_OFFLOAD_SQLITE_PATH": str(Path(folder, "jobs.sqlite3"))}
        environ = os.environ | database | {"FLASK_OFFLOAD_WORKER": "off"}
        root = Path(__file__).parent.parent
        programs = [
            subprocess.Popen(argv, cwd=root, env=environ, pass_fds=[handle])
            for argv in (command, worker)
        ]
        try:
            yield listener.getsockname()[1]
        finally:
            for program in programs:
                program.terminate()
                program.wait()


def ask(
    port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[float, http.client.HTTPResponse, Any]:
    """One request over a new connection, as a sync worker wants it: seconds, answer, its JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.perf_counter()
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    connection.close()
    return seconds, answer, json.loads(body) if body.startswith(b"{") else None


def enqueue(port: int, path: str) -> str:
    """A job's address, once it runs."""
    location = ask(port, path, "POST")[2]["links"]["self"]
    while ask(port, location)[2]["status"] != "RUNNING":
        time.sleep(0.05)
    return str(location)


@contextmanager
def polling(port: int, job: str, clients: int) -> Iterator[list[int]]:
    """Clients that wait for the job, each in a thread; gives the statuses they have got."""
    over = threading.Event()
    statuses: list[int] = []

    def wait() -> None:
        tag = ""
        over.wait(random.random())  # they did not all come at once
        while not over.is_set():
            headers = {"Accept": "application/json", "If-None-Match": tag}
            answer = ask(port, job, headers=headers)[1]
            statuses.append(answer.status)
            tag = answer.headers["ETag"]
            over.wait(int(answer.headers["Retry-After"]))

    threads = [threading.Thread(target=wait) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def visits(port: int, seconds: float) -> list[float]:
    """The bystander's page, one visit after the other."""
    end = time.perf_counter() + seconds
    found = []
    while time.perf_counter() < end:
        found.append(ask(port, "/")[0])
    return found


def measure(clients: int, rounds: int, seconds: float) -> dict[str, float]:
    """Milliseconds: the bystander's page alone and with the clients, and one poll."""
    alone: list[float] = []
    together: list[float] = []
    polls = 0
    with served() as port:
        job, silent = enqueue(port, "/long"), enqueue(port, "/silent")
        for _ in range(rounds):
            alone += visits(port, seconds)
            with polling(port, job, clients) as statuses:
                together += visits(port, seconds)
            polls += len(statuses)
        news = [ask(port, job)[0] for _ in range(100)]
        tag = {"If-None-Match": ask(port, silent)[1].headers["ETag"]}
        same = [ask(port, silent, headers=tag) for _ in range(100)]
        assert {answer.status for _, answer, _ in same} == {304}
        for address in (job, silent):
            ask(port, address, "DELETE")
    p50 = {
        "alone_ms": statistics.median(alone) * 1000,
        "together_ms": statistics.median(together) * 1000,
        "poll_ms": statistics.median(news) * 1000,
        "poll_304_ms": statistics.median(seconds for seconds, *_ in same) * 1000,
    }
    return {**p50, "ratio": p50["together_ms"] / p50["alone_ms"], "polls": polls}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    random.seed(SEED)
    found = measure(given.clients, given.rounds, given.seconds)
    if given.json:
        print(json.dumps(found))
        return
    print(f"bystander page, alone              p50 {found['alone_ms']:.2f} ms")
    print(
        f"bystander page, {given.clients} clients polling   p50 {found['together_ms']:.2f} ms"
        f" ({found['ratio']:.3f} times; {found['polls']:.0f} polls)"
    )
    print(f"one poll with news                p50 {found['poll_ms']:.2f} ms")
    print(f"one poll without (304)            p50 {found['poll_304_ms']:.2f} ms")


if __name__ == "__main__":
    main()
