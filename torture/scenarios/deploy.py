"""Restarts and upgrades under load: gunicorn's signals, workers told to stop, newer versions."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import apsw

from flask_offload import JobStatus
from support import answers, wait_until

from ..app import accept, quick, slow
from ..scenario import Run, scenario, show
from ..world import PYTHON, World

DRAIN = 10.0
"""Seconds that workers wait for running jobs; all jobs here are much shorter."""


@scenario(
    "T15",
    "gunicorn is reloaded (HUP), recycles its processes (--max-requests) and is stopped and started"
    " (TERM) while requests enqueue jobs",
)
def rolling_restarts(run: Run) -> None:
    rounds = run.size(1, 25)
    failed: list[str] = []
    requests = 0
    env: dict[str, Any] = {"FLASK_OFFLOAD_DRAIN_TIMEOUT": f"{DRAIN}"}
    with World(run.new_folder(), **env) as world:
        for _ in range(rounds):
            web = world.gunicorn(
                *("--workers", "2", "--max-requests", "40", "--max-requests-jitter", "10")
            )
            with web.client("/slow/0.2", pause=0.03), web.client("/quick", pause=0.03):
                for _ in range(2):
                    time.sleep(run.chance.uniform(1.0, 2.0))
                    web.process.send(signal.SIGHUP)
                time.sleep(1.5)
            web.process.send(signal.SIGTERM)
            web.process.wait(60)
            failed += web.errors
            requests += web.requests
        world.gunicorn("--workers", "1")  # whose first request starts a worker
        world.quiesce(30)
        cut = _cut(world)
        audit = world.audit()
    run.figure("requests", f"{requests:,}, {rounds * 2} HUP, {rounds} TERM")
    run.judge(audit)
    run.gate("no request failed", failed[:3] or "yes", not failed)
    run.gate("no job was cut that would have ended in time", cut, cut == 0)
    run.gate("no job ran twice", audit.again, audit.again == 0)


def _cut(world: World) -> int:
    """Jobs that ran more than once."""
    starts = [words[2] for words in world.lines("start")]
    return len(starts) - len(set(starts))


@scenario(
    "T15",
    "a worker under load gets SIGTERM, again and again; jobs fit the drain time",
)
def graceful_stops(run: Run) -> None:
    rounds = run.size(4, 200)
    times: list[float] = []
    codes: set[int] = set()
    with World(run.new_folder()) as world, world.here():
        for _ in range(rounds):
            worker = world.worker("--threads", "4", "--drain-timeout", f"{DRAIN}")
            number = len(world.lines("start"))
            for _ in range(40):
                accept(quick.enqueue() if run.chance.random() < 0.5 else slow.enqueue(0.2))
            world.wait_for_lines("start", number + run.chance.randrange(1, 8))
            began = time.monotonic()
            worker.send(signal.SIGTERM)
            codes.add(worker.wait(60))
            times.append(time.monotonic() - began)
        world.burst()
        audit = world.audit()
    ordered = run.times("from SIGTERM to the end", times)
    run.judge(audit)
    run.gate("each ended with exit code 0", codes, codes == {0})
    run.gate("in the drain time and a second", show(ordered[-1]), ordered[-1] <= DRAIN + 1)
    run.gate("no job ran twice", audit.again, audit.again == 0)


NEWER = """
import flask_offload.engines.sqlite.schema as schema
schema.MIGRATIONS.append("ALTER TABLE workers ADD COLUMN colour TEXT")
"""
"""As sitecustomize.py, it makes every process that finds it one of the next version."""


@scenario(
    "T16",
    "a newer version upgrades the database under a running old worker; then the old one is stopped"
    " and a new one is started",
)
def upgrade_under_a_worker(run: Run) -> None:
    rounds = run.size(1, 20)
    told: list[str] = []
    refused = 0
    for _ in range(rounds):
        with World(run.new_folder()) as world:
            newer = world.folder / "newer"
            newer.mkdir()
            (newer / "sitecustomize.py").write_text(NEWER)
            path: dict[str, Any] = {"PYTHONPATH": f"{newer}:{world.env['PYTHONPATH']}"}
            with world.here():
                old = world.worker("--threads", "2")
                for _ in range(20):
                    accept(slow.enqueue(0.1))
            enqueuer = [PYTHON, "-m", "torture.enqueuer", "60", f"{run.report.seed}", "0.01"]
            world.engine.close()
            upgraded = world.start(enqueuer, **path)
            assert upgraded.wait(60) == 0, str(upgraded)
            old.send(signal.SIGTERM)
            told.append(f"exit code {old.wait(60)}")
            new = world.start(world.command("worker", "--log-level", "warning"), **path)
            _wait_until_idle(world, new.output)
            audit = world.audit()
        # a task of the old version that enqueues is told so, as any old process that starts now
        run.judge(audit, may_fail=lambda why: why.startswith("DatabaseTooNew"))
        run.gate("no job ran twice", audit.again, audit.again == 0)
        refused += audit.failed
    run.figure("the old worker ended with", set(told))
    run.figure("jobs of the old worker that enqueue others, and were refused", refused)


def _wait_until_idle(world: World, output: Callable[[], str]) -> None:
    """World.quiesce for a database of the next version, which the engine here refuses to open."""
    connection = apsw.Connection(str(world.database))
    unfinished = "SELECT count(*) FROM jobs WHERE finished_at IS NULL"
    try:
        wait_until(lambda: connection.execute(unfinished).get == 0, 60, output)
    finally:
        connection.close()


@scenario(
    "T16",
    "a worker of an app that lacks a task finds jobs of it, as during a deploy; then comes one that"
    " has the task",
)
def unknown_tasks(run: Run) -> None:
    jobs = run.size(20, 1_000)
    with World(run.new_folder()) as world, world.here():
        (world.folder / "old_app.py").write_text(
            "from torture.app import create_app, offload\ndel offload.tasks['torture.app.slow']\n"
        )
        for _ in range(jobs):
            accept(slow.enqueue(0.0))
            accept(quick.enqueue())
        argv = [PYTHON, "-m", "flask", "--app", "old_app", "offload", "worker"]
        path = f"{world.folder}:{world.env['PYTHONPATH']}"
        old = world.start([*argv, "--log-level", "error"], PYTHONPATH=path)
        wait_until(lambda: world.engine.count()[JobStatus.SUCCESSFUL] == jobs, 60)
        failed = world.engine.count()[JobStatus.FAILED]
        waiting = world.unfinished()
        old.stop()
        world.worker()
        world.quiesce(30)
        audit = world.audit()
    run.judge(audit)
    run.gate(
        "unknown ones wait", f"{waiting} wait, {failed} failed", (waiting, failed) == (jobs, 0)
    )


SERVERS = {
    "gthread": ("-k", "gthread", "--threads", "4", "--workers", "2"),
    "gthread, preload": ("-k", "gthread", "--threads", "4", "--workers", "4", "--preload"),
    "gevent": ("-k", "gevent", "--workers", "2"),
}


@scenario(
    "T17",
    "gunicorn with threads, with --preload and with gevent enqueues from many requests at once",
)
def web_servers(run: Run) -> None:
    seconds = run.size(1, 60)
    for name, arguments in SERVERS.items():
        with World(run.new_folder()) as world:
            web = world.gunicorn(*arguments)
            with web.client(pause=0.0, threads=4):
                time.sleep(seconds)
            wait_until(lambda url=web.url: answers(f"{url}/"), 10)  # type: ignore[misc]
            world.quiesce(30)
            audit = world.audit()
        run.figure(name, f"{web.requests:,} requests in {seconds} s")
        run.judge(audit)
        run.gate(f"{name}: no request failed", web.errors[:3] or "yes", not web.errors)
        run.gate(f"{name}: no job ran twice", audit.again, audit.again == 0)
