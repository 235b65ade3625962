"""One job kills the process that runs it, each time; what does that cost the others?"""

from __future__ import annotations

import time
from collections import Counter

from .. import queue_app
from . import Event, Events
from .own_worker import LOOK, OwnWorker

OTHERS = 20
SECONDS = 0.15
"""That each of the others takes."""

LIMIT = 40.0
"""Seconds for all of it."""


def poison() -> Events:
    """Twenty ordinary jobs with a poison job in their middle, on two processes of two threads.

    Events: runs (ms since the start, of each attempt of the poison job) and done (of the others);
    the last one also has ended and reason (status and error of the poison job), twice (how many of
    the others ran again) and others.
    """
    yield {"status": "Starting a worker with two processes…"}
    with OwnWorker(2, 2) as worker:
        began = time.monotonic()
        names = [f"job-{number}" for number in range(OTHERS)]
        for name in names[: OTHERS // 2]:
            worker.enqueue(queue_app.work, name, SECONDS)
        job = worker.enqueue(queue_app.poison, "poison")
        for name in names[OTHERS // 2 :]:
            worker.enqueue(queue_app.work, name, SECONDS)
        before: Event = {}
        while True:
            runs = [round((note.at - began) * 1000) for note in worker.notes("poison")]
            done = {note.subject for note in worker.notes("work-end")} & set(names)
            event: Event = {"runs": runs, "done": sorted(map(names.index, done))}
            if event != before:
                yield event
            before = event
            job = worker.refreshed(job)
            if (job.is_finished and len(done) == OTHERS) or time.monotonic() - began > LIMIT:
                break
            time.sleep(LOOK * 5)
        started = Counter(note.subject for note in worker.notes("work-begin"))
        yield {
            **event,
            "ended": str(job.status),
            "reason": job.error.message if job.error else "",
            "twice": sum(started[name] > 1 for name in names),
            "others": OTHERS,
        }
