"""Processes that are stopped, and go on much later, as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_offload import DatabaseLocked
from flask_offload.engines.sqlite.recovery import _recover_one
from flask_offload.engines.store import Retention
from flask_offload.engines.worker_locks import run_folder
from proc import descendants
from support import Running, wait_until

from ..app import accept, careful, quick, slow, telling
from ..event_log import record_kill
from ..scenario import BOTH, Run, scenario, show
from ..world import World

BUSY_TIMEOUT = 1.0
"""Seconds that an enqueue waits for the write lock of a stopped process."""
LONGER_THAN_ANY_TIMEOUT = 4.0
"""Seconds; with OFFLOAD_BUSY_TIMEOUT = 1 longer than all that a worker waits for."""


@scenario(
    "T4",
    "children, supervisors and whole workers are stopped (SIGSTOP) for longer than any timeout, and"
    " go on: no job may run twice, no result of an attempt that was given up may be written",
    stores=BOTH,
)
def zombies(run: Run) -> None:
    rounds = run.size(2, 100)
    stops = 0
    with run.world(FLASK_OFFLOAD_BUSY_TIMEOUT="1") as world, world.here():
        world.watch()
        workers = [world.worker("--processes", "2") for _ in range(3)]
        for _ in range(rounds):
            for _ in range(60):
                accept(quick.enqueue() if run.chance.random() < 0.5 else slow.enqueue(0.3))
            accept(careful.enqueue(0.3))
            world.wait_for_lines("start", stops + 1)
            targets = [_some_of(worker, run) for worker in workers]
            stops += sum(map(len, targets))
            with stopped([pid for pids in targets for pid in pids]):
                time.sleep(LONGER_THAN_ANY_TIMEOUT)
            world.quiesce(20)
        audit = world.audit()
    run.figure("processes stopped", f"{stops}, for {LONGER_THAN_ANY_TIMEOUT:g} s each")
    run.judge(audit)
    run.gate("no job ran twice", audit.again, audit.again == 0)


def _some_of(worker: Running, run: Run) -> list[int]:
    """A child, the supervisor, or all of them."""
    children = descendants(worker.pid)
    return run.chance.choice([[worker.pid], [run.chance.choice(children)], [worker.pid, *children]])


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop these processes for the time of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@scenario(
    "T4",
    "a stopped worker is taken for dead (which its lock prevents; the test goes round it), its jobs"
    " are run by another, and then it goes on: every late result and report must be refused",
    in_ci=True,
    stores=BOTH,
)
def stale_results(run: Run) -> None:
    rounds, jobs = run.size(2, 50), 10
    with run.world() as world, world.here():
        world.watch()  # each of its reports says of which attempt it is
        for _ in range(rounds):
            victim = world.worker("--threads", f"{jobs}")
            number = len(world.lines("start"))
            for _ in range(jobs):
                accept(telling.enqueue(2.0))
            starts = world.wait_for_lines("start", number + jobs)[number:]
            pids = [victim.pid, *descendants(victim.pid)]
            with stopped(pids):
                if run.on_postgres:
                    world.postgres.end_session(victim.pid)  # others then wait for it to come back
                else:
                    _take_for_dead(world, victim)
                record_kill("taken-for-dead", float(starts[0][0]), pids, path=str(world.event_log))
                other = world.worker("--threads", f"{jobs}")
                world.wait_for_lines("start", number + 2 * jobs)
            world.quiesce(20)
            if not run.on_postgres:  # there it stops its jobs, or their outcomes come too late
                wait_until(
                    lambda v=victim: v.output().count("came too late") >= jobs,  # type: ignore[misc]
                    20,
                    lambda v=victim: f"{jobs} refusals by {v}",  # type: ignore[misc]
                )
            victim.stop()
            other.stop()
        audit = world.audit()
    run.judge(audit)
    run.gate(
        "late results refused",
        f"{rounds * jobs} of {rounds * jobs}",
        audit.again == rounds * jobs,
    )


def _take_for_dead(world: World, victim: Running) -> None:
    """Put its jobs back, as is done for a worker whose lock is free."""
    info = next(worker for worker in world.workers() if worker.pid == victim.pid)
    keep = Retention(3600.0, 3600.0, 10**6)
    assert _recover_one(world.sqlite, keep, info.id, run_folder(world.database)) > 0


@scenario(
    "T5",
    "a process is stopped in the middle of a write transaction: the others are refused with an"
    " error that names it, and write again once it continues",
    in_ci=True,
)
def frozen_writer(run: Run) -> None:
    rounds = run.size(3, 50)
    refusals, named, still_stopped = 0, 0, 0
    waits: list[float] = []
    delays: list[float] = []
    with run.world() as world, world.here(OFFLOAD_BUSY_TIMEOUT=BUSY_TIMEOUT):
        worker = world.worker("--threads", "8")
        busy = world.enqueuer(10**6, run.report.seed, 0.0)
        for number in range(rounds):
            victim = worker if number % 2 else busy
            with held_lock(world, victim.pid):
                began = time.monotonic()
                try:
                    accept(quick.enqueue())
                except DatabaseLocked as error:
                    refusals += 1
                    named += f"process {victim.pid} (" in str(error) and "is stopped" in str(error)
                waits.append(time.monotonic() - began)
                still_stopped += _state(victim.pid) == "T"
            began = time.monotonic()
            accept(quick.enqueue())
            delays.append(time.monotonic() - began)
        world.kill("enqueuer", busy.pid)
        world.quiesce(30)
        audit = world.audit()
    run.times("wait of a refused enqueue", waits)
    run.times("from the process's SIGCONT to the next accepted enqueue", delays)
    run.judge(audit)
    run.gate("enqueue is refused", f"{refusals} of {rounds}", refusals == rounds)
    run.gate("the error names the stopped process", f"{named} of {rounds}", named == rounds)
    run.gate("the process stays stopped", f"{still_stopped} of {rounds}", still_stopped == rounds)
    run.gate(
        f"no refusal takes much longer than OFFLOAD_BUSY_TIMEOUT ({BUSY_TIMEOUT:g} s)",
        show(max(waits)),
        max(waits) <= BUSY_TIMEOUT + 1.5,
    )
    run.gate("no job ran twice", audit.again, audit.again == 0)


@contextmanager
def held_lock(world: World, pid: int) -> Iterator[None]:
    """Stop a process that writes all the time just when it holds the write lock."""
    deadline = time.monotonic() + 60
    while True:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: _state(pid) == "T", 5)
        if _holds_write_lock(world.database, pid):
            break
        os.kill(pid, signal.SIGCONT)
        assert time.monotonic() < deadline, f"{pid} never holds the lock"
        time.sleep(0.002)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _holds_write_lock(database: Path, pid: int) -> bool:
    """As the kernel reports it: byte 120 of the shared memory file is SQLite's write lock."""
    inode = os.stat(f"{database}-shm").st_ino
    wanted = ["POSIX", "ADVISORY", "WRITE", f"{pid}"]
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1:5] == wanted and words[5].endswith(f":{inode}") and words[6] == "120":
            return True
    return False
