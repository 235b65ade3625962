"""Jobs that harm the process they run in."""

from __future__ import annotations

import re
import time
from statistics import median
from typing import Any

from flask_offload import Job

from ..app import accept, offload, quick, slow
from ..poison_tasks import POISON_TASKS, enqueue_poison, stop_the_event_loop
from ..scenario import BOTH, Run, scenario
from ..world import World

MEMORY = 4_000_000
"""Kilobytes of address space for each process of the worker."""


@scenario(
    "T6",
    "jobs that segfault, exit, eat memory, loop in C, close all descriptors, change directory,"
    " signals, locale and more: each ends as it must, all others are done",
    in_ci=True,
    stores=BOTH,
)
def poison(run: Run) -> None:
    doses, good = run.size(1, 6), run.size(300, 10_000)
    names = [name for name in POISON_TASKS for _ in range(doses)]
    with run.world(FLASK_OFFLOAD_TIMEOUT_GRACE="0.5") as world, world.here():
        poisoned: list[tuple[str, Job]] = []
        for position in run.chance.sample(range(good + len(names)), good + len(names)):
            if position < len(names):
                poisoned.append((names[position], accept(enqueue_poison(names[position]))))
            else:
                accept(slow.enqueue(0.05) if position % 10 == 0 else quick.enqueue())
        loop_stoppers = [accept(stop_the_event_loop.enqueue()) for _ in range(doses)]
        argv = world.command("worker", "--burst", "--processes", "2", "--log-level", "error")
        worker = world.start(["sh", "-c", f'ulimit -v {MEMORY}; exec "$@"', "sh", *argv])
        code = worker.wait(110 if not run.long else 1800)
        for job in [*loop_stoppers, *(job for _, job in poisoned)]:
            job.refresh()
        audit = world.audit()
    run.gate("the worker ended by itself", f"exit code {code}", code == 0)
    if run.long:
        well, sick = _rates_after_poison(run)
        run.figure(
            "quick jobs a second, without and after the poison tasks", f"{well:,.0f}, {sick:,.0f}"
        )
        run.gate(
            "once the poison tasks are given up, at least 90% of the throughput",
            f"{sick / well:.0%}",
            sick >= 0.9 * well,
        )
    wrong = [text for name, job in poisoned if (text := _wrong(name, job))]
    run.figure("poison tasks", f"{len(poisoned)} of {len(POISON_TASKS)} kinds among {good:,} jobs")
    run.gate("each poison task ends as it must", wrong[:5] or "yes", not wrong)
    outcomes = {tuple(attempt.outcome for attempt in job.attempts) for job in loop_stoppers}
    # its third attempt is alone in a process and has a loop of its own to stop
    given_up = outcomes == {("CRASHED", "CRASHED", "FAILED")}
    run.gate("who stops the event loop is given up", outcomes, given_up)
    crashes = max(_crashes(job) for _, job in poisoned)
    run.gate("no poison task kills more than three processes", crashes, crashes <= 3)
    expected = [pattern for pattern, _ in POISON_TASKS.values() if pattern]
    expected.append("RuntimeError: Event loop stopped")
    run.judge(audit, may_fail=lambda why: any(re.match(p, why, re.S) for p in expected))


def _rates_after_poison(run: Run) -> tuple[float, float]:
    """Jobs a second of a worker in good health, and of one that has run each poison task once.

    In turns, as both slow down with what they have done and with what else the machine does.
    """
    grace: dict[str, Any] = {"FLASK_OFFLOAD_TIMEOUT_GRACE": "0.5"}
    with run.world(**grace) as well, run.world(**grace) as sick:
        for world in (well, sick):
            with world.here():
                world.worker("--processes", "2", "--log-level", "error")
        with sick.here():
            for name in POISON_TASKS:
                enqueue_poison(name)
            sick.quiesce(120)
        rates: dict[World, list[float]] = {well: [], sick: []}
        for _ in range(9):
            for world, found in rates.items():
                with world.here():
                    found.append(_rate(world))
    return median(rates[well]), median(rates[sick])


def _rate(world: World, jobs: int = 3_000) -> float:
    offload.enqueue_many([quick.call() for _ in range(jobs)])
    began = time.monotonic()
    world.quiesce(60)
    return jobs / (time.monotonic() - began)


def _crashes(job: Job) -> int:
    return sum(attempt.outcome == "CRASHED" for attempt in job.attempts)


def _wrong(name: str, job: Job) -> str | None:
    expected = POISON_TASKS[name][0]
    error = f"{job.error.type}: {job.error.message}" if job.error else None
    if expected is None:
        fits = error is None and job.status == "SUCCESSFUL"
    else:
        fits = error is not None and re.match(expected, error, re.S) is not None
        fits = fits and job.status == "FAILED"
    return None if fits else f"{name}: {job.status}, {(error or '')[:200]}"
