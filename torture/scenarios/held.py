"""Databases that others hold: locked, or read for so long that the log can't be emptied."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from flask_offload import EngineUnavailable
from proc import alive

from ..app import accept, message, offload, quick
from ..scenario import Run, scenario, show
from ..world import PYTHON, World
from .storage import during_two_jobs, none_refused_is_there, until_done

HOLDER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(10_000)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another(database: Path) -> Iterator[None]:
    """Another program holds the write lock for the time of the block."""
    with subprocess.Popen(
        [PYTHON, "-c", HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield
        assert holder.stdin is not None
        holder.stdin.close()


@scenario(
    "T8",
    "another program holds the database locked for 30 s (4 s in the short form), while eight"
    " threads enqueue and two jobs end",
)
def locked(run: Run) -> None:
    hold, patience = (30.0, 5.0) if run.long else (4.0, 1.0)
    errors: Counter[str] = Counter()
    waits: list[float] = []
    with (
        run.world(FLASK_OFFLOAD_BUSY_TIMEOUT=f"{patience}") as world,
        world.here(OFFLOAD_BUSY_TIMEOUT=patience) as app,
    ):
        accept(quick.enqueue())
        worker = world.worker("--threads", "2")
        family = during_two_jobs(world, worker.pid)

        def ask() -> None:
            with app.app_context():
                while time.monotonic() < until:
                    began = time.monotonic()
                    try:
                        accept(quick.enqueue())
                    except EngineUnavailable as error:
                        errors[type(error).__name__] += 1
                    waits.append(time.monotonic() - began)

        with locked_by_another(world.database):
            began = time.monotonic()
            until = began + hold
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        back = until_done(world)
        died = sum(not alive(pid) for pid in family)
        audit = world.audit()
    run.times("wait of a refused enqueue", waits)
    run.figure("from the end of the lock to the end of all jobs", show(back))
    run.judge(audit)
    run.gate("enqueue says that it is locked", dict(errors), set(errors) == {"DatabaseLocked"})
    run.gate(
        f"no thread waits much longer than OFFLOAD_BUSY_TIMEOUT ({patience:g} s)",
        show(max(waits)),
        max(waits) <= patience + 1.5,
    )
    run.gate("no process of the worker died", died, died == 0)
    run.gate("back at work within 5 s, without a restart", show(back), back <= 5)
    run.gate("what ended meanwhile is not run again", audit.again, audit.again == 0)
    none_refused_is_there(run, audit)


@scenario(
    "T14",
    "a long reader keeps the write-ahead log from being emptied while jobs go on; then it ends",
)
def long_reader(run: Run) -> None:
    seconds = run.length or run.size(0, 600)
    with run.world() as world, world.here():
        accept(quick.enqueue())
        world.worker()
        world.quiesce(10)
        reader = apsw.Connection(str(world.database))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchall()
        until, grown = time.monotonic() + seconds, 0
        while time.monotonic() < until or grown < LARGE:
            calls = [message.call("x" * run.size(4000, 20)) for _ in range(200)]
            for job in offload.enqueue_many(calls):
                accept(job)
            world.quiesce(60)
            time.sleep(run.size(0, 1))
            grown = _log_size(world)
        told = world.start(world.command("check"))
        told.wait(60)
        reader.execute("COMMIT")
        reader.close()
        began = time.monotonic()
        deadline = began + 30
        while _log_size(world) > BACK_TO and time.monotonic() < deadline:
            accept(quick.enqueue())
            time.sleep(0.1)
        took = time.monotonic() - began
        left = _log_size(world)
        world.quiesce(20)
        audit = world.audit()
    run.figure("write-ahead log while the reader reads", f"{grown / 1e6:.1f} MB")
    run.judge(audit)
    alarm = "kept from" in told.output() or "keeps the database open" in told.output()
    run.gate(
        "`flask offload check` reports a large log",
        "yes" if alarm else f"no, at {grown / 1e6:.1f} MB",
        alarm,
    )
    run.gate(
        "the log is small again within 10 s of the reader's end",
        f"{left / 1e6:.1f} MB after {took:.1f} s",
        left <= BACK_TO and took <= 10,
    )


BACK_TO = 5_000_000
"""Bytes: SQLite's own limit of 1,000 pages, and some."""
LARGE = 70_000_000
"""Bytes at which it is time for an alarm: more than the 64 MiB of `flask offload check`."""


def _log_size(world: World) -> int:
    return os.stat(f"{world.database}-wal").st_size
