"""Procrastinate on Postgres."""

from __future__ import annotations

import os

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.note import note

PLACE = os.environ["BENCH_PLACE"]
app = App(
    connector=PsycopgConnector(
        conninfo=os.environ["BENCH_URL"], kwargs={"options": f"-c search_path={PLACE}"}
    )
)
job = app.task(name="note")(note)


def prepare() -> None:
    """Connect, and make the tables if they are not there."""
    with psycopg.connect(os.environ["BENCH_URL"]) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {PLACE}")
    app.open()
    if not app.check_connection():
        app.schema_manager.apply_schema()


def enqueue(sent: float) -> None:
    """Defer it."""
    job.defer(sent=sent)
