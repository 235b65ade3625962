"""The app of the mode Queue: its tasks, and the worker that runs them.

`python -m flask_offload_lab.queue_app --processes 2 --threads 4` is the worker; the lab enqueues.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from flask import Flask, current_app
from flask.cli import main

from flask_offload import Offload, exponential

from .journal import Journal
from .webserver import end_with_the_lab

FOLDER = "LAB_QUEUE_FOLDER"
"""The environment variable, and the key in the app's config, that name the folder."""

FIRST, CAP = 0.5, 2.0
"""Seconds of the first wait between two attempts of a call, and of the longest."""

MAX_ATTEMPTS = 20

offload = Offload()


def create_app(folder: Path | None = None) -> Flask:
    """folder: where the jobs and the journal are kept; None takes it from the environment."""
    app = Flask(__name__)
    app.config[FOLDER] = folder or Path(os.environ[FOLDER])
    app.config.update(
        OFFLOAD_ENGINE="sqlite",
        OFFLOAD_SQLITE_PATH=str(app.config[FOLDER] / "offload.sqlite3"),
        OFFLOAD_WORKER="off",
        OFFLOAD_SPOT=False,
    )
    offload.init_app(app)
    return app


def journal() -> Journal:
    """The current app's."""
    return Journal(current_app.config[FOLDER] / "journal.txt")


@offload.task
def work(name: str, seconds: float) -> None:
    """Wait, as for a mail server."""
    with journal().span("work", name):
        time.sleep(seconds)


@offload.task(max_attempts=MAX_ATTEMPTS, backoff=exponential(FIRST, cap=CAP, jitter=False))
def call_together(address: str) -> None:
    """Call a service; if it refuses, again after a time that is the same for all."""
    call(address)


@offload.task(max_attempts=MAX_ATTEMPTS, backoff=exponential(FIRST, cap=CAP, jitter=True))
def call_spread(address: str) -> None:
    """The same, after a time that is drawn at random up to that."""
    call(address)


def call(address: str) -> None:
    """Raises urllib.error.HTTPError if the service refuses."""
    with urlopen(address, timeout=10):
        pass


@offload.task
def poison(name: str) -> None:
    """Kill the process that runs this, as a fault in a C library would."""
    journal().note("poison", name)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_the_lab()
    app = "flask_offload_lab.queue_app:create_app"
    command = ["--app", app, "offload", "worker", "--log-level", "error"]
    sys.argv = ["flask", *command, *sys.argv[1:]]
    main()
