"""The experiments of Deep: the interpreter lock, the queue at the door, kills, bell and lock."""

from __future__ import annotations

import time

from flask_offload.measure.probe import innocent
from flask_offload.measure.samples import ProbeResult, percentile

from ..crash_test import Pattern, survive
from ..errors import BenchError
from ..processes import kill_now
from ..testbed import Bench, Watch
from . import Event, Events
from .telling import Tell, telling

CRUNCHERS = 4
CRUNCH = 2.5
"""Seconds that each of them computes."""

QUEUE = (0, 1, 3)
"""How many others are at the door."""

RINGS = 40
HELD = 4.0
PATIENCE = 30.0


def interpreter_lock(bench: Bench) -> Events:
    """The home page while four jobs compute, first in threads of the web server, then in a worker.

    Each event: where, points [[second, ms], …], p50, p99.
    """
    home = f"{bench.club.origin}/"
    for where in ("thread", "background"):
        yield {"say": f"Four computations in {_PLACE[where]}, and a page every 50 ms…"}
        for _ in range(CRUNCHERS):
            bench.club.get(f"/workshop/crunch/{where}?seconds={CRUNCH}")
        result = innocent(home, None, seconds=CRUNCH * 0.8, interval=0.05)
        yield {"where": where, **_points(result)}
        time.sleep(CRUNCH * 0.2)


_PLACE = {"thread": "threads of the web server", "background": "the worker"}


def _points(result: ProbeResult) -> Event:
    points = [
        [round(answer.at_s, 3), round(answer.response_ms, 1)]
        for answer in result.answers
        if answer.response_ms is not None
    ]
    return {"points": points, "p50": result.p50_ms, "p99": result.p99_ms}


def door(bench: Bench) -> Events:
    """The home page while others join through /sync: what its visitor waits, and what the app says
    it took."""
    origin = bench.club.origin
    for others in QUEUE:
        yield {"say": f"{others} at the door, and a stranger…" if others else "Nobody at the door…"}
        watch = bench.watch()
        slow = f"{origin}/sync" if others else None
        result = innocent(f"{origin}/", slow, clients=max(others, 1), seconds=1.5, interval=0.15)
        yield {"others": others, "waited": result.p50_ms, "app": result.server_p50_ms}
        if not bench.until(watch.is_quiet, PATIENCE):
            raise BenchError


def lost_work(bench: Bench, pattern: Pattern) -> Events:
    """`kill -9` of everything while four mails are under way; then count."""

    def work(tell: Tell) -> None:
        found = survive(bench, pattern, 4, lambda text: tell({"say": text}))
        tell(
            {
                "pattern": pattern,
                "members": found.members,
                "answered": found.answered,
                "done": found.done,
                "twice": found.twice,
                "lost": found.lost,
                "killed": found.killed,
                "recovered": found.recovered_ms,
            }
        )

    return telling(work)


def bell(bench: Bench) -> Events:
    """From the commit of an enqueue to the first line of the task, again and again."""
    watch = bench.watch()
    waits: list[float] = []
    for number in map(str, range(RINGS)):
        waits.append(_ring(bench, watch, number))
        yield {"wait": round(waits[-1], 3)}
    yield {"p50": percentile(waits, 50), "p99": percentile(waits, 99), "count": len(waits)}


def _ring(bench: Bench, watch: Watch, number: str) -> float:
    """Milliseconds; the task may be quicker than the note of the one who rang."""
    bench.club.get(f"/workshop/ping?number={number}")
    if not bench.until(lambda: watch.count("ping-run", [number]) > 0, PATIENCE):
        raise BenchError
    times = {note.kind: note.at for note in watch.notes if note.subject == number}
    return max(times["ping-run"] - times["ping-sent"], 0.0) * 1000


def lock(bench: Bench) -> Events:
    """`kill -9` of one worker process, then of the whole worker; how soon its job runs again."""

    def work(tell: Tell) -> None:
        for what in ("child", "worker"):
            tell({"say": f"A job runs; now kill -9 of {_VICTIM[what]}…"})
            tell({"what": what, "again": _killed(bench, what)})

    return telling(work)


_VICTIM = {"child": "the process that runs it", "worker": "the whole worker"}


def _killed(bench: Bench, what: str) -> float:
    """Milliseconds from the kill until the job's first line runs for the second time."""
    [name] = bench.names("hold", 1)
    watch = bench.watch()
    bench.club.get(f"/workshop/hold?name={name}&seconds={HELD}")
    if not bench.until(lambda: watch.count("hold-run", [name]) == 1, PATIENCE):
        raise BenchError
    runner = next(note.pid for note in watch.notes if note.kind == "hold-run")
    killed_at = time.monotonic()
    kill_now([runner] if what == "child" else bench.club.workers())
    if not bench.until(lambda: watch.count("hold-run", [name]) == 2, PATIENCE):
        raise BenchError
    again = [note.at for note in watch.notes if note.kind == "hold-run"][-1]
    return (again - killed_at) * 1000
