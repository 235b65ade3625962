"""From the kill to the job's new start."""

from __future__ import annotations

import time

from flask_offload import JobStatus
from proc import descendants, parent
from support import Running, answers, http_post, wait_until

from ..app import accept, until_killed
from ..scenario import BOTH, Run, quantile, scenario
from ..world import Web, World

SURVIVES = 0.5
"""Seconds of a job that is to outlive the web process that enqueued it."""


@scenario(
    "T3",
    "the time from kill -9 to the new start of the job that was running: of a child, of a worker"
    " beside another, of a worker that a web process keeps, of a web process that keeps one; and"
    " from the start of a new worker, after the kill of all there were",
    stores=BOTH,
)
def recovery(run: Run) -> None:
    rounds = run.size(3, 200)
    with run.world() as world, world.here():
        first = world.worker("--threads", "1")
        child = [_kill_child(world, first) for _ in range(rounds)]
        second = world.worker("--threads", "1")
        supervisor = []
        for _ in range(rounds):
            seconds, first, second = _kill_supervisor(world, first, second)
            supervisor.append(seconds)
        first.stop()
        tree = []
        for _ in range(rounds):
            seconds, second = _kill_tree(world, second)
            tree.append(seconds)
        second.stop()
        web = world.gunicorn("--workers", "2", FLASK_OFFLOAD_WORKER_THREADS="1")
        kept = [_kill_kept(world, web) for _ in range(rounds)]
        keeper = [_kill_keeper(world, web) for _ in range(rounds)]
        audit = world.audit()
    for name, times, limit in (
        ("the kill of a child", child, 1),
        ("the kill of a worker, another is there", supervisor, 1),
        ("the kill of a kept worker", kept, 1),
        ("the start of a new worker, all others were killed", tree, 2),
    ):
        ordered = run.times(f"from {name}", times)
        p99 = quantile(ordered, 0.99)
        most = run.size(5 * limit, limit)  # the short form may run on a busy machine
        run.gate(f"p99 <= {most} s after {name}", f"{p99:.3f} s", p99 <= most)
    run.gate(
        "a killed web process cuts no job of the worker that it kept",
        f"{sum(keeper)} of {rounds}",
        not any(keeper),
    )
    run.judge(audit)


def _kill_child(world: World, worker: Running) -> float:
    job_id, pid = _running_job(world)
    return _until_again(world, job_id, world.kill("child", pid))


def _kill_supervisor(
    world: World, first: Running, second: Running
) -> tuple[float, Running, Running]:
    """Kill the worker that runs the job; the other takes over. A new one comes beside it."""
    job_id, pid = _running_job(world)
    victim, other = (first, second) if pid in descendants(first.pid) else (second, first)
    began = world.kill("supervisor", victim.pid)
    seconds = _until_again(world, job_id, began)
    return seconds, other, world.worker("--threads", "1")


def _kill_tree(world: World, victim: Running) -> tuple[float, Running]:
    """Kill all there is of the only worker, and start another."""
    job_id, _ = _running_job(world)
    world.kill_group("tree", victim.pid)
    began = time.monotonic()
    new = world.worker("--threads", "1", wait=False)
    seconds = _until_again(world, job_id, began)
    world.wait_for_worker(new)
    return seconds, new


def _kill_kept(world: World, web: Web) -> float:
    kept = _kept_worker(world, web)
    job_id, _ = _running_job(world, web, "/until-killed")
    return _until_again(world, job_id, world.kill("kept", kept))


def _kill_keeper(world: World, web: Web) -> bool:
    """Whether the job was cut."""
    kept = _kept_worker(world, web)
    job_id, _ = _running_job(world, web, f"/slow/{SURVIVES}")
    world.kill("web", parent(kept) or 0, alone=True)
    world.quiesce(20)
    return len([words for words in world.lines("start") if words[2] == job_id]) > 1


def _kept_worker(world: World, web: Web) -> int:
    """The pid of the worker that a web process keeps, once those of killed ones have left."""

    def one() -> int | None:
        answers(f"{web.url}/")  # a web process starts its keeper with its first request
        family = descendants(web.process.pid)
        pids = [worker.pid for worker in world.workers()]
        return pids[0] if len(pids) == 1 and pids[0] in family else None

    return wait_until(one, 30, lambda: f"one worker: {world.workers()}") or 0


def _running_job(world: World, web: Web | None = None, path: str = "") -> tuple[str, int]:
    """A job that runs now, the only one: its id, and in which process."""
    world.quiesce(20)
    if web is None:
        job_id = accept(until_killed.enqueue()).id
    else:
        job_id = http_post(web.url + path).json()["id"]
        world.note("accepted", job_id)
    starts = _starts(world, job_id, 1)
    wait_until(lambda: world.engine.get(job_id).status is JobStatus.RUNNING)
    return job_id, int(starts[0][1])


def _until_again(world: World, job_id: str, killed: float) -> float:
    """Seconds from the kill to the second start."""
    return float(_starts(world, job_id, 2)[1][0]) - killed


def _starts(world: World, job_id: str, count: int) -> list[list[str]]:
    """The start lines of this job, once there are so many."""

    def there() -> list[list[str]]:
        lines = [words for words in world.lines("start") if words[2] == job_id]
        return lines if len(lines) >= count else []

    return wait_until(there, 30, f"start {count} of {job_id}")
