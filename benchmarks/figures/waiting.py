"""A thousand jobs that wait 100 ms each, as those do that send mail or call an API."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from ..field import Entry, Field, PeerFailed
from ..peers import BY_NAME
from . import Effort, Figure

JOBS = 1000
SECONDS = 0.1
THREADS = (4, 50)
COROUTINES = 100
FILL = """
import json, sys, time
from benchmarks.jobs import create_app, flask_offload_peer, wait, wait_async
task = {"wait": wait, "wait_async": wait_async}[sys.argv[1]]
with create_app().app_context():
    calls = [task.call(time.monotonic(), float(sys.argv[3])) for _ in range(int(sys.argv[2]))]
    flask_offload_peer.offload.enqueue_many(calls)
"""


def measure(field: Field, effort: Effort) -> Figure:
    """From the first job's start until the last one must have ended, against the ideal."""
    figure = Figure("jobs that wait 100 ms each", ["seconds", "x ideal", "ideal s", "jobs"])
    cases: list[tuple[str, int, tuple[str, ...]]]
    cases = [("wait", count, ("--threads", str(count))) for count in THREADS]
    cases += [("wait_async", COROUTINES, ())]
    for task, at_once, options in cases:
        # four threads are slow by nature: fewer jobs say the same
        jobs = effort.of(JOBS) if at_once > 10 else effort.of(JOBS) // 5
        ideal = jobs / at_once * SECONDS
        took = []
        for _ in range(min(3, effort.rounds)):
            entry = field.entry(BY_NAME["offload-power"])
            took.append(_run(entry, task, jobs, options))
        name = f"{at_once} {'threads' if task == 'wait' else 'coroutines'}"
        middle = statistics.median(took)
        figure.rows[name] = [middle, middle / ideal, ideal, float(jobs)]
        figure.judge(f"{name}: x the ideal", middle / ideal, 1.2)
    return figure


def _run(entry: Entry, task: str, jobs: int, options: tuple[str, ...]) -> float:
    argv = [sys.executable, "-c", FILL, task, json.dumps(jobs), json.dumps(SECONDS)]
    subprocess.run(argv, check=True, env=entry.environ, cwd=entry.environ["PYTHONPATH"])
    entry.command = ["-m", "flask", "--app", "benchmarks.jobs", "offload", "worker"]
    with entry.worker("--log-level", "error", *options):
        if not entry.notes.wait(jobs, 120.0, 0.01):
            raise PeerFailed(f"{entry.notes.count()} of {jobs} jobs: {entry.worker_log}")
    started = [start for _, start in entry.notes.read()]
    return started[-1] + SECONDS - started[0]
