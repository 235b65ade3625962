"""Odd values, given to all that a task can call."""

from __future__ import annotations

import json

from flask_offload import Job

from ..app import quick
from ..odd_values import CALLS, VALUES, give_odd_value
from ..scenario import Run, scenario


@scenario(
    "T24",
    "each odd value (infinite, huge, not text, not a number, hostile objects …) given to progress,"
    " track, checkpoint, Retry, Discard, exceptions, as a result: refused in the task or carried",
    in_ci=True,
)
def odd_values(run: Run) -> None:
    rounds = run.size(1, 25)
    pairs = [(call, index) for call in CALLS for index in range(len(VALUES))] * rounds
    run.chance.shuffle(pairs)
    odd: list[Job] = []
    good: list[Job] = []
    with run.world() as world, world.here():
        for number, (call, index) in enumerate(pairs):
            odd.append(give_odd_value.enqueue(call, index))
            if number % 5 == 0:
                good.append(quick.enqueue())
        argv = world.command("worker", "--burst", "--processes", "2", "--log-level", "error")
        code = world.start(argv).wait(110 if not run.long else 1800)
        for job in odd:
            if not job.refresh().is_finished and job.run_after is not None:
                job.cancel()  # it asked for a wait of years
        for job in good:
            job.refresh()
        listed = world.command("jobs", "--json", "--limit", "1000")
        document = world.start(listed)
        readable = document.wait(60) == 0 and len(json.loads(document.output())) > 0
    crashed = [job.id for job in odd if any(a.outcome == "CRASHED" for a in job.attempts)]
    running = [job.id for job in odd if not job.is_finished]
    run.figure("odd calls", f"{len(odd):,} of {len(CALLS)} kinds with {len(VALUES)} values")
    run.gate("the worker ended by itself", f"exit code {code}", code == 0)
    run.gate("no process died of a value", len(crashed), not crashed)
    run.gate("each job has ended, or waits as long as it asked for", running, not running)
    left = [job.id for job in good if job.status != "SUCCESSFUL"]
    run.gate("all jobs beside them are done", f"{len(good) - len(left)} of {len(good)}", not left)
    run.gate("the list of jobs can be read", readable, readable)
