"""Bare SQLite: the least that a durable job costs. No checks, no results, no retries, no waking up.

One connection behind a lock; one INSERT per job, and per run one claim and one finish.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from benchmarks.note import note

_lock = threading.Lock()
_connection: apsw.Connection
INSERT = "INSERT INTO job (task, args, at) VALUES (?, ?, ?)"
CLAIM = """UPDATE job SET status = 1 WHERE id = (SELECT id FROM job WHERE status = 0 LIMIT 1)
           RETURNING id, args"""
FINISH = "UPDATE job SET status = 2 WHERE id = ?"
SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY, task TEXT, args TEXT, at REAL, status INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting ON job (id) WHERE status = 0;
"""


def connect() -> apsw.Connection:
    """A connection that waits its turn."""
    connection = apsw.Connection(str(Path(os.environ["BENCH_FOLDER"], "floor.sqlite3")))
    connection.set_busy_timeout(5000)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {os.environ['BENCH_SYNCHRONOUS']}")
    connection.execute(SCHEMA)
    return connection


def prepare() -> None:
    """Open it."""
    global _connection
    _connection = connect()


def enqueue(sent: float) -> None:
    """One row, one transaction."""
    with _lock:
        _connection.execute(INSERT, ("note", json.dumps([sent]), time.time()))


def enqueue_many(sent: Sequence[float]) -> None:
    """All rows in one transaction."""
    now = time.time()
    with _lock, _connection:
        _connection.executemany(INSERT, [("note", json.dumps([each]), now) for each in sent])


def work() -> None:
    """Run jobs for ever, one at a time; polls."""
    connection = connect()
    while True:
        row = connection.execute(CLAIM).fetchall()
        if row:
            note(*json.loads(str(row[0][1])))
            connection.execute(FINISH, (row[0][0],))
        else:
            time.sleep(0.01)


if __name__ == "__main__":
    work()
