"""What the profiler claims about short work in a fresh process: right, not seen, or wrong.

    python -m benchmarks.spot_claims [--processes 50] [--burners 0] [--kinds sql regex-60 …]

Each process makes two requests, so that both the first one, for which the sampler's thread starts,
and one with the sampler awake are counted. A claim is right when the function that did the work is
named first; wrong when another is, or when "a function written in C" is blamed for work that lets
other threads run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from flask_offload.profiler.install import ProfilerSettings, install
from flask_offload.profiler.spot_report import SpotReport

REQUESTS = 2
_SEVERAL = [{"number": number, "name": f"order {number}"} for number in range(4_000)]
_engine = create_engine(
    "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
)
_connection = sqlite3.connect(":memory:", check_same_thread=False)


def orm_statements() -> int:
    """Short statements through SQLAlchemy."""
    until = time.perf_counter() + 0.1
    count = 0
    with _engine.connect() as connection:
        while time.perf_counter() < until:
            count += connection.execute(text("SELECT 1")).scalar_one()
    return count


def raw_statements() -> int:
    """Short statements through sqlite3."""
    until = time.perf_counter() + 0.1
    count = 0
    while time.perf_counter() < until:
        count += _connection.execute("SELECT 1").fetchone()[0]
    return count


def match(repeats: int) -> bool:
    """A pattern that backtracks: one call, which holds the interpreter."""
    return re.fullmatch(r"(a|a)*b", "a" * repeats) is None


def sleep() -> None:
    """Wait, and let other threads run."""
    time.sleep(0.1)


def dump() -> int:
    """JSON, in calls of several milliseconds that hold the interpreter."""
    until = time.perf_counter() + 0.1
    size = 0
    while time.perf_counter() < until:
        size += len(json.dumps(_SEVERAL))
    return size


def hash_blocks() -> str:
    """Hash blocks of 4 KB: the interpreter is released for microseconds each."""
    until = time.perf_counter() + 0.1
    block, found = bytes(4096), ""
    while time.perf_counter() < until:
        found = hashlib.sha256(block).hexdigest()
    return found


def hash_all() -> str:
    """One hash of 64 MB, which releases the interpreter throughout."""
    return hashlib.sha256(bytes(64_000_000)).hexdigest()


def stat() -> int:
    """A system call again and again."""
    until = time.perf_counter() + 0.1
    count = 0
    while time.perf_counter() < until:
        count += os.stat("/").st_nlink
    return count


KINDS: dict[str, tuple[Callable[[], object], str, bool]] = {
    "sql": (orm_statements, "orm_statements", False),
    "raw-sql": (raw_statements, "raw_statements", False),
    "sleep": (sleep, "sleep", False),
    "json": (dump, "dump", True),
    "hash-blocks": (hash_blocks, "hash_blocks", False),
    "hash": (hash_all, "hash_all", False),
    "stat": (stat, "stat", False),
}
KINDS |= {
    f"regex-{millis}": ((lambda repeats=repeats: match(repeats)), "match", True)
    for millis, repeats in ((60, 19), (120, 20), (250, 21), (500, 22), (1200, 23))
}
"""The work, the function to be named, and whether it holds the interpreter."""


def one(kind: str) -> None:
    """Make the requests, and print what is said about each. Runs in a process of its own."""
    work, function, holds = KINDS[kind]
    reports: list[SpotReport] = []
    arrived = threading.Semaphore(0)

    def found(report: SpotReport) -> None:
        reports.append(report)
        arrived.release()

    app = Flask(__name__)
    app.logger.setLevel(logging.ERROR)

    @app.get("/work")
    def view() -> str:
        work()
        return "ok"

    install(app, ProfilerSettings(False, True, spot_above_ms=40.0, on_report=found))
    client = app.test_client()
    for _ in range(REQUESTS):
        thread = threading.Thread(target=client.get, args=("/work",))
        thread.start()
        thread.join()
        if arrived.acquire(timeout=5):
            print(f"{judge(reports[-1], function, holds)}\t{reports[-1].sentence}", flush=True)
        else:
            print("wrong\tno report within 5 seconds", flush=True)


def judge(report: SpotReport, function: str, holds: bool) -> str:
    """Right, not seen or wrong."""
    if "written in C" in report.sentence:
        return "unnamed" if holds else "wrong"
    first = report.blockers[0].function if report.blockers else "(not seen)"
    if first == function:
        return "right"
    return "not seen" if first == "(not seen)" else "wrong"


def main() -> None:
    """Print how often each kind of work is judged how."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--burners", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--show", action="store_true", help="print what is not right")
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one)
        return
    burn = [sys.executable, "-c", "import time\nwhile time.process_time() < 900: pass"]
    burners = [subprocess.Popen(burn) for _ in range(arguments.burners)]
    outcomes = ("right", "unnamed", "not seen", "wrong")
    try:
        print(f"{'':<14}" + "".join(f"{outcome:>10}" for outcome in outcomes))
        for kind in arguments.kinds:
            command = [sys.executable, "-m", "benchmarks.spot_claims", "--one", kind]
            lines: list[str] = []
            for _ in range(arguments.processes):
                ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                lines += ran.stdout.splitlines()
            count = Counter(line.partition("\t")[0] for line in lines)
            print(f"{kind:<14}" + "".join(f"{count[outcome]:>10}" for outcome in outcomes))
            if arguments.show:
                print("".join(f"    {line}\n" for line in lines if not line.startswith("right")))
    finally:
        for burner in burners:
            burner.kill()


if __name__ == "__main__":
    main()
