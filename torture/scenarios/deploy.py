"""Restarts and upgrades under load: gunicorn's signals, workers told to stop, newer versions."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from typing import Any

from flask_offload import Job, JobStatus
from proc import descendants
from support import answers, wait_until

from ..app import accept, quick, slow, until_killed
from ..auditor import Audit
from ..event_log import record_kill
from ..scenario import BOTH, Run, scenario, show
from ..world import PYTHON, Web, World

DRAIN = 10.0
"""Seconds that workers wait for running jobs."""
TOO_SHORT = 1.0
"""The same, where jobs take much longer."""


@scenario(
    "T15",
    "gunicorn is reloaded (HUP), recycles its processes (--max-requests) and is stopped and started"
    " (TERM) while requests enqueue jobs",
    stores=BOTH,
)
def rolling_restarts(run: Run) -> None:
    rounds, longest = run.size(1, 25), run.size(3, 7)
    env: dict[str, Any] = {
        "FLASK_OFFLOAD_DRAIN_TIMEOUT": f"{DRAIN}",
        "FLASK_OFFLOAD_WORKER_THREADS": "20",  # nothing waits long: much runs at each signal
    }
    webs: list[Web] = []
    with run.world(**env) as world:
        world.watch()
        for _ in range(rounds):
            web = world.gunicorn(
                *("-k", "gthread", "--threads", "4", "--workers", "2"),
                *("--max-requests", "40", "--max-requests-jitter", "10"),
            )
            webs.append(web)
            _restart_under_load(run, web, float(longest))
        world.gunicorn("--workers", "1")  # whose first request starts a worker
        world.quiesce(30)
        cut = _cut(world)
        audit = world.audit()
    requests, refused = sum(web.requests for web in webs), sum(web.refused for web in webs)
    failed = [error for web in webs for error in web.errors]
    run.figure("requests", f"{requests:,}, {rounds * 2} HUP, {rounds} TERM")
    run.figure("longest job, and the drain time", f"{longest} s, {DRAIN:g} s")
    run.judge(audit)
    run.gate("no request failed", failed[:3] or "yes", not failed)
    run.gate("no job was refused", refused, refused == 0)
    run.gate("no job was cut that would have ended in time", cut, cut == 0)
    run.gate("no job ran twice", audit.again, audit.again == 0)


def _restart_under_load(run: Run, web: Web, longest: float) -> None:
    """Two reloads among quick and slow requests for quick and long jobs; then the end, in the
    middle of a request and of long jobs."""
    with ExitStack() as clients:
        for path, pause in (
            ("/quick", 0.03),
            ("/slow/0.2", 0.03),
            (f"/slow/{longest}", 1.0),
            ("/slowly/0.5", 0.1),
        ):
            clients.enter_context(web.client(path, pause=pause))
        for _ in range(2):
            time.sleep(run.chance.uniform(1.0, 2.0))
            web.process.send(signal.SIGHUP)
        time.sleep(1.5)
    last = threading.Thread(target=web.post, args=("/slowly/1.0",))
    last.start()
    time.sleep(0.5)
    web.process.send(signal.SIGTERM)
    last.join()
    web.process.wait(60)


def _cut(world: World) -> int:
    """Jobs that ran more than once."""
    starts = [words[2] for words in world.lines("start")]
    return len(starts) - len(set(starts))


@scenario(
    "T15",
    "a worker under load gets SIGTERM, again and again; jobs fit the drain time",
    stores=BOTH,
)
def graceful_stops(run: Run) -> None:
    rounds = run.size(4, 200)
    times: list[float] = []
    codes: set[int] = set()
    with run.world() as world, world.here():
        world.watch()
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
        world.burst("--threads", "50")  # what each has left for the next, by now thousands
        audit = world.audit()
    ordered = run.times("from SIGTERM to the end", times)
    run.judge(audit)
    run.gate("each ended with exit code 0", codes, codes == {0})
    run.gate("in the drain time and a second", show(ordered[-1]), ordered[-1] <= DRAIN + 1)
    run.gate("no job ran twice", audit.again, audit.again == 0)


@scenario(
    "T15",
    "a worker whose jobs take much longer than its drain time gets SIGTERM: it hands them back at"
    " no cost, and leaves in time; those that fit are not cut",
    stores=BOTH,
)
def overdue_stops(run: Run) -> None:
    rounds, overdue = run.size(1, 50), 3
    times: list[float] = []
    jobs: list[Job] = []
    with run.world() as world, world.here():
        world.watch()
        for _ in range(rounds):
            worker = world.worker("--threads", "8", "--drain-timeout", f"{TOO_SHORT}")
            number = len(world.lines("start"))
            jobs += [accept(until_killed.enqueue()) for _ in range(overdue)]
            for _ in range(3):
                accept(slow.enqueue(0.3))
            world.wait_for_lines("start", number + overdue + 3)
            began, family = time.monotonic(), descendants(worker.pid)
            worker.send(signal.SIGTERM)
            worker.wait(60)
            times.append(time.monotonic() - began)
            record_kill("drain", began, family, path=str(world.event_log))
            world.burst()
        cost = {(attempt.outcome, job.status) for job in jobs for attempt in job.refresh().attempts}
        audit = world.audit()
    ordered = run.times(f"from SIGTERM to the end, with {TOO_SHORT:g} s to drain", times)
    run.judge(audit)
    run.gate("in the drain time and a second", show(ordered[-1]), ordered[-1] <= TOO_SHORT + 1)
    run.gate(
        "those that take longer are handed back, and no others",
        f"{audit.again} of {len(jobs)}",
        audit.again == len(jobs),
    )
    # their tasks may fail only once
    free = cost == {("INTERRUPTED", JobStatus.SUCCESSFUL), ("SUCCESSFUL", JobStatus.SUCCESSFUL)}
    run.gate("that costs them nothing", {outcome for outcome, _ in cost}, free)


@scenario(
    "T16",
    "a newer version upgrades the database under a running old worker; then the old one is stopped"
    " and a new one is started",
    stores=BOTH,
)
def upgrade_under_a_worker(run: Run) -> None:
    rounds = run.size(1, 50)
    codes: set[int] = set()
    went_on: list[int] = []
    whole = Audit()
    for _ in range(rounds):
        with run.world() as world:
            path = newer_version(world)
            with world.here():
                old = world.worker("--threads", "2")
                for _ in range(20):
                    accept(slow.enqueue(0.1))
            enqueuer = [PYTHON, "-m", "torture.enqueuer", "60", f"{run.report.seed}", "0.01"]
            world.engine.close()
            family = [f"{pid}" for pid in descendants(old.pid)]
            upgraded = world.start(enqueuer, **path)
            assert upgraded.wait(60) == 0, str(upgraded)
            since = min(float(w[0]) for w in world.lines("accepted") if w[1] == f"{upgraded.pid}")
            old.send(signal.SIGTERM)
            codes.add(old.wait(60))
            ends = [words for words in world.lines("end") if words[1] in family]
            went_on.append(sum(float(words[0]) > since for words in ends))
            world.start(world.command("worker", "--log-level", "warning"), **path)
            world.quiesce(60)
            whole.add(world.audit())
    run.figure("upgrades", rounds)
    run.judge(whole)
    run.gate("no job failed, those that enqueue others included", whole.failed, whole.failed == 0)
    run.gate("no job ran twice", whole.again, whole.again == 0)
    run.gate("the old worker goes on", f"{min(went_on)} jobs and more", min(went_on) > 0)
    run.gate("and ends when asked to, with exit code 0", codes, codes == {0})


def newer_version(world: World) -> dict[str, Any]:
    """The environment in which a process is one of the next version."""
    newer = world.folder / "newer"
    newer.mkdir()
    (newer / "sitecustomize.py").write_text(world.store.newer)
    return {"PYTHONPATH": f"{newer}:{world.env['PYTHONPATH']}"}


@scenario(
    "T16",
    "a worker of an app that lacks a task finds jobs of it, as during a deploy; then comes one that"
    " has the task",
    stores=BOTH,
)
def unknown_tasks(run: Run) -> None:
    jobs = run.size(20, 1_000)
    with run.world() as world, world.here():
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
    "gthread": ("-k", "gthread", "--threads", "4", "--workers", "4"),
    "gthread, preload": ("-k", "gthread", "--threads", "4", "--workers", "4", "--preload"),
    "gevent": ("-k", "gevent", "--workers", "4"),
}


@scenario(
    "T17",
    "gunicorn with threads, with --preload and with gevent enqueues from many requests at once",
)
def web_servers(run: Run) -> None:
    requests = run.size(150, 33_400)
    whole = Audit()
    for name, arguments in SERVERS.items():
        with run.world() as world:
            web = world.gunicorn(*arguments)
            began = time.monotonic()
            with web.client(pause=0.0, threads=4):
                wait_until(lambda web=web: web.requests >= requests, 1800)  # type: ignore[misc]
            seconds = time.monotonic() - began
            wait_until(lambda url=web.url: answers(f"{url}/"), 10)  # type: ignore[misc]
            world.quiesce(30)
            whole.add(world.audit())
        run.figure(name, f"{web.requests:,} requests in {seconds:.0f} s")
        wrong = [*web.errors, *["503: refused"] * web.refused]
        run.gate(f"{name}: no request failed", wrong[:3] or "yes", not wrong)
    run.judge(whole)
    run.gate("no job ran twice", whole.again, whole.again == 0)
