"""Flask-Offload."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flask import Flask

from benchmarks.note import note
from flask_offload import Offload

offload = Offload()
job = offload.task(note)


def init_app(app: Flask) -> None:
    """Add it to an app whose worker is started by hand."""
    folder = Path(os.environ["BENCH_FOLDER"])
    app.config.from_prefixed_env()  # the engine, and what it needs
    app.config.update(OFFLOAD_SQLITE_PATH=folder / "jobs.sqlite3", OFFLOAD_WORKER="off")
    if app.config.get("OFFLOAD_ENGINE") == "postgres":
        app.config.update(
            OFFLOAD_POSTGRES_URL=os.environ["BENCH_URL"],
            OFFLOAD_POSTGRES_SCHEMA=os.environ["BENCH_PLACE"],
        )
    offload.init_app(app)


def create_app() -> Flask:
    """A minimal app, for the worker."""
    app = Flask(__name__)
    init_app(app)
    return app


def prepare() -> None:
    """Be inside a context, as a view is."""
    create_app().app_context().push()


def enqueue(sent: float) -> None:
    """As a view does."""
    job.enqueue(sent)


def enqueue_many(sent: Sequence[float]) -> None:
    """In one transaction."""
    offload.enqueue_many([job.call(each) for each in sent])
