"""The least that a pickup through three processes costs: what stands in the way of a quicker one.

    python -m benchmarks.hops [--samples 300]

Each of these processes sleeps until the one before wakes it, as the supervisor, and the child with
its threads, wait for the program that enqueues. The path is walked with more and more in it, in
turns, with 5 to 15 ms between two walks, so that caches are as cold as in the figure "pickup".
Shown are milliseconds from before the first step to the first line after the last.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import apsw

INSERT = "INSERT INTO job (args) VALUES (?)"
CLAIM = """UPDATE job SET status = 1 WHERE id = (SELECT id FROM job WHERE status = 0 LIMIT 1)
           RETURNING args"""
SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY, args TEXT, status INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting ON job (id) WHERE status = 0;
"""


def connect(path: Path) -> apsw.Connection:
    """Bare SQLite, without fsync."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(SCHEMA)
    return connection


class Walk:
    """The processes of one path. hops: how many processes are woken. stores: whether the first
    inserts a row and the second claims it."""

    def __init__(self, folder: Path, hops: int, *, stores: bool) -> None:
        self._file = folder / f"{hops}{stores}.sqlite3" if stores else None
        self._answer, far_answer = socket.socketpair()
        first, notifier = os.pipe()
        self._notifier = notifier
        if os.fork() == 0:
            os.close(notifier)  # so that it ends with us
            self._dispatch(first, far_answer, hops)
        os.close(first)
        far_answer.close()
        self._connection = connect(self._file) if self._file else None

    def walk(self) -> float:
        """Seconds from here to the last one's first line."""
        sent = time.monotonic()
        if self._connection is not None:
            self._connection.execute(INSERT, ("[1.5]",))
        os.write(self._notifier, b"!")
        return float(self._answer.recv(64)) - sent

    def _dispatch(self, notifier: int, answer: socket.socket, hops: int) -> None:
        """The second process: claims, and hands over to the third if there is one."""
        child: socket.socket | None = None
        if hops == 2:
            child, theirs = socket.socketpair()
            if os.fork() == 0:
                child.close()
                self._run(theirs, answer)
            theirs.close()
        connection = connect(self._file) if self._file else None
        while os.read(notifier, 64):
            if connection is not None:
                connection.execute(CLAIM).fetchall()
            if child is None:
                answer.send(b"%.7f" % time.monotonic())
            else:
                child.send(b"run")
        os._exit(0)

    def _run(self, orders: socket.socket, answer: socket.socket) -> None:
        """The third: one thread listens, another one works."""
        inbox: SimpleQueue[bytes] = SimpleQueue()

        def work() -> None:
            while inbox.get():
                answer.send(b"%.7f" % time.monotonic())

        Thread(target=work, daemon=True).start()
        while order := orders.recv(64):
            inbox.put(order)
        os._exit(0)


def main() -> None:
    """Walk all paths in turns; print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hops")
    parser.add_argument("--samples", type=int, default=300)
    samples = parser.parse_args().samples
    with tempfile.TemporaryDirectory(prefix="hops-") as name:
        folder = Path(name)
        paths: dict[str, Walk] = {
            "one process woken through a pipe": Walk(folder, 1, stores=False),
            "the same, with an insert and a claim": Walk(folder, 1, stores=True),
            "two processes and a thread": Walk(folder, 2, stores=False),
            "the same, with an insert and a claim ": Walk(folder, 2, stores=True),
        }
        took: dict[str, list[float]] = {what: [] for what in paths}
        for _ in range(samples):
            for what, path in random.sample(list(paths.items()), len(paths)):
                time.sleep(random.uniform(0.005, 0.015))
                took[what].append(path.walk() * 1e3)
    for what, values in took.items():
        ranked = sorted(values)
        tail = ranked[int(0.99 * len(ranked))]
        sys.stdout.write(f"{what:40} p50 {statistics.median(ranked):5.2f}  p99 {tail:5.2f} ms\n")


if __name__ == "__main__":
    main()
