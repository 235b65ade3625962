"""DBOS on SQLite: a client enqueues, a process with one queue runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from dbos import DBOS, DBOSClient, DBOSConfig, run_dbos_database_migrations

from benchmarks.note import note

URL = f"sqlite:///{Path(os.environ['BENCH_FOLDER'], 'dbos.sqlite3')}"
QUEUE = "bench"
_client: DBOSClient


@DBOS.workflow(name="note")
def job(sent: float) -> None:
    """The task."""
    note(sent)


def prepare() -> None:
    """Make the tables, connect."""
    global _client
    run_dbos_database_migrations(system_database_url=URL)
    _client = DBOSClient(system_database_url=URL)


def enqueue(sent: float) -> None:
    """Write the workflow down."""
    _client.enqueue({"workflow_name": "note", "queue_name": QUEUE}, sent)


def work() -> None:
    """Run what is in the queue, for ever."""
    DBOS(config=DBOSConfig(name="bench", system_database_url=URL, log_level="ERROR"))
    DBOS.launch()
    DBOS.register_queue(QUEUE)
    threading.Event().wait()


if __name__ == "__main__":
    work()
