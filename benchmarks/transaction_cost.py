"""What a job of the app's transaction costs: beside a commit and an enqueue, one after the other.

    python -m benchmarks.transaction_cost [--blocks 10] [--size 200]

Each operation adds a row by the ORM and commits. `plain` has no job; `separate` enqueues one after
the commit; `together` enqueues it before (db=); `no relay` is the same, and nothing passes the job
on meanwhile. Blocks of the four take turns, with 5 ms after each operation, as between requests; a
block is long enough for the relay to delete rows in it.
`fsync` is a write of one page with fdatasync on the same disk: the least that each commit takes.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_offload import Offload

from .figures import percentile

sys.path.append(str(Path(__file__).parent.parent / "tests" / "helpers"))
KINDS = ("sqlite", "postgres", "postgres, joined")
PAUSE = 0.005


class Site:
    """An app with its database and job database, as in production: the relay has a thread."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        class Base(DeclarativeBase):
            pass

        self.db = db = SQLAlchemy(model_class=Base)

        class Row(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]

        self.Row = Row
        self.app = Flask("cost", instance_path=str(folder))
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI=url,
            OFFLOAD_ENGINE="postgres" if kind == "postgres, joined" else "sqlite",
            OFFLOAD_SQLITE_PATH=str(folder / "jobs.sqlite3"),
            OFFLOAD_WORKER="off",
        )
        db.init_app(self.app)
        self.offload = Offload(self.app, db=db)

        @self.offload.task(name="work")
        def work(number: int) -> None: ...

        self.work = work
        self.ways: dict[str, Callable[[], None]] = {
            "plain": self.plain,
            "separate": self.separate,
            "together": self.together,
        }
        transactions: Any = self.offload.state_of(self.app).transactions
        self.relay = transactions._relay
        if self.relay is not None:
            self.ways["no relay"] = self.without_relay

    def plain(self) -> None:
        self.db.session.add(self.Row(name="x"))
        self.db.session.commit()

    def separate(self) -> None:
        self.plain()
        self.work.enqueue(1)

    def together(self) -> None:
        self.db.session.add(self.Row(name="x"))
        self.work.enqueue(1)
        self.db.session.commit()

    def without_relay(self) -> None:
        submit, self.relay.submit = self.relay.submit, lambda *_: None
        try:
            self.together()
        finally:
            self.relay.submit = submit


def measure(site: Site, blocks: int, size: int) -> dict[str, list[float]]:
    """Seconds of each operation, by way."""
    took: dict[str, list[float]] = {way: [] for way in site.ways}
    for block in range(blocks + 1):
        for way in random.sample([*site.ways], len(site.ways)):
            for _ in range(size):
                began = time.perf_counter()
                site.ways[way]()
                ended = time.perf_counter()
                site.db.session.remove()
                if block:  # the first warms up
                    took[way].append(ended - began)
                time.sleep(PAUSE)
            if site.relay is not None:
                site.relay.wait(20.0)
    return took


def fsyncs(folder: Path, count: int) -> list[float]:
    """Seconds of single page writes that reach the disk."""
    took = []
    file = os.open(folder / "page", os.O_RDWR | os.O_CREAT)
    for number in range(count):
        began = time.perf_counter()
        os.pwrite(file, bytes(4096), 4096 * (number % 64))
        os.fdatasync(file)
        took.append(time.perf_counter() - began)
        time.sleep(PAUSE)
    os.close(file)
    return took


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of the app's database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'app.sqlite3'}"
        return
    from postgres_server import serving_postgres

    with serving_postgres() as server, server.database() as url:
        yield url.replace("postgresql:", "postgresql+psycopg:")


def main() -> None:
    """Measure, and print a table for docs/transactions.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transaction_cost")
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--size", type=int, default=200)
    given = parser.parse_args()
    print("| app's database | operation | p50 | p99 | x separate, p50 | p99 |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="cost-") as name, ExitStack() as stack:
            folder = Path(name)
            url = stack.enter_context(database(kind, folder))
            site = Site(kind, url, folder)
            with site.app.app_context():
                site.db.create_all()
                took = measure(site, given.blocks, given.size)
                took["fsync"] = fsyncs(folder, given.blocks * given.size)
                if site.relay is not None:
                    site.relay.close()
                site.db.engine.dispose()
                site.offload.engine.close()
            show(kind, took)


def show(kind: str, took: dict[str, list[float]]) -> None:
    """The rows of one database."""
    base = took["separate"]
    for way, values in took.items():
        p50, p99 = statistics.median(values), percentile(values, 0.99)
        shares = p50 / statistics.median(base), p99 / percentile(base, 0.99)
        print(
            f"| {kind} | {way} | {p50 * 1e3:.2f} ms | {p99 * 1e3:.2f} ms"
            f" | {shares[0]:.2f} | {shares[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
