"""The experiments of Deep: interpreter lock, backlog, crashes, notifier and worker lock."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from flask_offload.measure import ProbeResult, percentile, probe_bystander

from ..crash_test import Pattern, run_crash_test
from ..errors import WorkNotDone
from ..journal import JournalReader
from ..processes import kill_now
from ..testbed import LabTestbed
from . import Event, Events

COMPUTATIONS = 4
COMPUTATION_SECONDS = 2.5

OTHERS = (0, 1, 3)
"""How many others wait at the web server."""

PINGS = 40
HOLD_SECONDS = 4.0
PATIENCE = 30.0

Emit = Callable[[Event], None]


def interpreter_lock(testbed: LabTestbed) -> Events:
    """The home page while four jobs compute, first in threads of the web server, then in a worker.

    Each event: where, points [[second, ms], …], p50, p99.
    """
    home = f"{testbed.sample_app.origin}/"
    for where in ("thread", "background"):
        yield {"status": f"Four computations in {_PLACE[where]}, and a page every 50 ms…"}
        for _ in range(COMPUTATIONS):
            testbed.sample_app.get(f"/workshop/crunch/{where}?seconds={COMPUTATION_SECONDS}")
        result = probe_bystander(home, None, seconds=COMPUTATION_SECONDS * 0.8, interval=0.05)
        yield {"where": where, **_points(result)}
        time.sleep(COMPUTATION_SECONDS * 0.2)


_PLACE = {"thread": "threads of the web server", "background": "the worker"}


def _points(result: ProbeResult) -> Event:
    points = [
        [round(answer.at_s, 3), round(answer.response_ms, 1)]
        for answer in result.answers
        if answer.response_ms is not None
    ]
    return {"points": points, "p50": result.p50_ms, "p99": result.p99_ms}


def backlog(testbed: LabTestbed) -> Events:
    """The home page while others join through /sync: what its visitor waits, and the time that the
    app reports."""
    origin = testbed.sample_app.origin
    for others in OTHERS:
        yield {"status": f"A bystander, and {others} others on /sync…"}
        journal = testbed.journal()
        slow = f"{origin}/sync" if others else None
        result = probe_bystander(
            f"{origin}/", slow, clients=max(others, 1), seconds=1.5, interval=0.15
        )
        yield {"others": others, "waited": result.p50_ms, "app": result.server_p50_ms}
        if not testbed.until(journal.is_quiet, PATIENCE):
            raise WorkNotDone


def lost_work(testbed: LabTestbed, pattern: Pattern) -> Events:
    """`kill -9` every process while four mails are being sent; then count."""

    def work(emit: Emit) -> None:
        found = run_crash_test(testbed, pattern, 4, lambda text: emit({"status": text}))
        emit(
            {
                "pattern": pattern,
                "members": found.members,
                "answered": found.answered,
                "done": found.done,
                "twice": found.twice,
                "dropped": found.dropped,
                "lost": found.lost,
                "killed": found.killed,
                "recovered": found.recovered_ms,
            }
        )

    return _in_thread(work)


def notifier(testbed: LabTestbed) -> Events:
    """From the commit of an enqueue to the first line of the task, forty times."""
    journal = testbed.journal()
    waits: list[float] = []
    for number in map(str, range(PINGS)):
        waits.append(_ping(testbed, journal, number))
        yield {"wait": round(waits[-1], 3)}
    yield {"p50": percentile(waits, 50), "p99": percentile(waits, 99), "count": len(waits)}


def _ping(testbed: LabTestbed, journal: JournalReader, number: str) -> float:
    """Milliseconds; 0 if the task ran before the request could write its note."""
    testbed.sample_app.get(f"/workshop/ping?number={number}")
    if not testbed.until(lambda: journal.count("ping-run", [number]) > 0, PATIENCE):
        raise WorkNotDone
    times = {note.kind: note.at for note in journal.notes if note.subject == number}
    return max(times["ping-run"] - times["ping-sent"], 0.0) * 1000


def worker_lock(testbed: LabTestbed) -> Events:
    """`kill -9` one worker process, then the whole worker; how soon its job runs again."""

    def work(emit: Emit) -> None:
        for what in ("child", "worker"):
            emit({"status": f"A job runs; now kill -9 of {_VICTIM[what]}…"})
            emit({"what": what, "again": _killed(testbed, what)})

    return _in_thread(work)


_VICTIM = {"child": "the process that runs it", "worker": "the whole worker"}


def _killed(testbed: LabTestbed, what: str) -> float:
    """Milliseconds from the kill until the job's first line runs for the second time."""
    [name] = testbed.names("hold", 1)
    journal = testbed.journal()
    testbed.sample_app.get(f"/workshop/hold?name={name}&seconds={HOLD_SECONDS}")
    if not testbed.until(lambda: journal.count("hold-run", [name]) == 1, PATIENCE):
        raise WorkNotDone
    child = next(note.pid for note in journal.notes if note.kind == "hold-run")
    killed_at = time.monotonic()
    kill_now([child] if what == "child" else testbed.sample_app.workers())
    if not testbed.until(lambda: journal.count("hold-run", [name]) == 2, PATIENCE):
        raise WorkNotDone
    again = [note.at for note in journal.notes if note.kind == "hold-run"][-1]
    return (again - killed_at) * 1000


def _in_thread(work: Callable[[Emit], None]) -> Events:
    """Run `work` in a thread; what it emits comes out as events, at once. Raises what it raises.

    If the reader leaves the page, the work still runs to its end: it may have killed processes that
    it has yet to start again.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work(events.put)
        except BaseException as error:
            failed.append(error)
        finally:
            events.put(None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while (event := events.get()) is not None:
            yield event
    finally:
        thread.join()
    if failed:
        raise failed[0]
