"""kill -9 at the N-th system call that writes, for every N: no moment is left to chance."""

from __future__ import annotations

import re
import signal
from collections import Counter
from typing import Any

from proc import descendants
from support import require_tool

from ..app import accept, careful, flaky, later, limited, quick, rated, resumable
from ..auditor import Audit
from ..event_log import record_kill
from ..scenario import BOTH, Run, scenario
from ..world import PYTHON, World
from .deploy import newer_version

CALLS = "pwrite64,fdatasync,fsync,ftruncate,unlink,write,sendto"
"""All that reaches the disk or another process: SQLite's pages, logs and syncs, the notifier, what
is sent to PostgreSQL."""

ENQUEUE = """
from torture.app import accept, careful, create_app, quick
app = create_app()
with app.app_context():
    for _ in range(3):
        accept(quick.enqueue())
    accept(careful.enqueue(0.0))
    engine = app.extensions["offload"].engine
    if engine.name == "sqlite":
        engine.database.checkpoint()
"""


Point = tuple[str, int]
"""A system call, and which of its calls: strace counts each kind by itself."""


@scenario(
    "T2",
    "an enqueuing process is killed at each system call that writes: while it makes the database,"
    " enqueues, and empties the log",
    stores=BOTH,
)
def kill_at_each_call_of_an_enqueue(run: Run) -> None:
    argv = [PYTHON, "-c", ENQUEUE]
    with run.world() as world:
        tally = Tally(run, _calls_of(world, argv))
    for point in tally.points:
        with run.world() as world:
            process = world.start([*_killed_at(point), *argv])
            tally.killed += process.wait(60) == KILLED
            world.burst()
            tally.check(point, world.audit(), may_fail=0)
    tally.judge()


@scenario(
    "T2",
    "a process of the next version is killed at each system call that writes, while it brings the"
    " database up to date and enqueues; then another does it again",
    stores=BOTH,
)
def kill_at_each_call_of_an_upgrade(run: Run) -> None:
    argv = [PYTHON, "-c", ENQUEUE]
    with run.world() as world:
        _prepare(world)
        tally = Tally(run, _calls_of(world, argv, **newer_version(world)))
    for point in tally.points:
        with run.world() as world:
            _prepare(world)
            newer = newer_version(world)
            process = world.start([*_killed_at(point), *argv], **newer)
            tally.killed += process.wait(60) == KILLED
            world.burst(**newer)
            tally.check(point, world.audit(), may_fail=0)
    tally.judge()


@scenario(
    "T2",
    "a worker's supervisor is killed at each system call that writes: while it registers, claims,"
    " makes ready what is due, writes outcomes, retries and progress, and leaves",
    in_ci=True,
    stores=BOTH,
)
def kill_at_each_call_of_a_worker(run: Run) -> None:
    with run.world() as world:
        argv = world.command("worker", "--burst", "--log-level", "error")
        _prepare(world)
        tally = Tally(run, _calls_of(world, argv))
    for point in tally.points:
        with run.world() as world:
            _prepare(world)
            process = world.start([*_killed_at(point), *argv])
            seen: set[int] = set()
            while process.popen.poll() is None:
                seen.update(descendants(process.pid))
            tally.killed += process.wait() == KILLED
            record_kill("call", 0.0, seen or [process.pid], path=str(world.event_log))
            world.burst()
            tally.check(point, world.audit(), may_fail=1)  # the one that must not run twice
    tally.judge()


KILLED = -signal.SIGKILL
"""strace ends as the program did that it traced."""


class Tally:
    """The points to kill at, how many were reached, and what was wrong after any of them."""

    def __init__(self, run: Run, calls: Counter[str]) -> None:
        self._run = run
        self._all = [(name, n) for name, most in sorted(calls.items()) for n in range(1, most + 1)]
        short = sorted(run.chance.sample(self._all, min(5, len(self._all))))
        self.points: list[Point] = self._all if run.long else short
        self.killed = 0
        self._wrong: list[str] = []

    def check(self, point: Point, audit: Audit, *, may_fail: int) -> None:
        """Note what the auditor found wrong."""
        if audit.violations or audit.waiting or audit.stuck or audit.failed > may_fail:
            self._wrong.append(f"{point}: {audit}")

    def judge(self) -> None:
        """The gates."""
        run, points = self._run, len(self.points)
        run.figure("killed at", f"{self.killed} of {points} calls tried, of {len(self._all)}")
        run.gate("every job accounted for, each time", self._wrong[:5] or "yes", not self._wrong)
        # a worker makes a few calls more or less each time
        share = self.killed / points
        run.gate("most points were reached", f"{share:.0%}", share >= 0.6)


def _prepare(world: World) -> None:
    with world.here():
        for _ in range(3):
            accept(quick.enqueue())
        accept(careful.enqueue(0.05))
        accept(resumable.enqueue(2, 0.01))
        accept(flaky.enqueue())
        accept(later(quick, 0.3).enqueue())
        for _ in range(2):
            accept(rated.enqueue())
            accept(limited.enqueue(0.01))


def _killed_at(point: Point) -> list[str]:
    """strace that kills the program it starts, not those that it forks, at such a call."""
    name, number = point
    strace = [require_tool("strace"), "-qq", "-o", "/dev/null", "-e", f"trace={name}"]
    return [*strace, "-e", f"inject={name}:signal=SIGKILL:when={number}"]


def _calls_of(world: World, argv: list[str], **env: Any) -> Counter[str]:
    """How many calls of each kind the program makes when it is not killed."""
    log = world.folder / "calls"
    strace = [require_tool("strace"), "-qq", "-o", str(log), "-e", f"trace={CALLS}"]
    process = world.start([*strace, *argv], **env)
    assert process.wait(60) == 0, str(process)
    found = (re.match(r"(\w+)\(", line) for line in log.read_text().splitlines())
    return Counter(match[1] for match in found if match)
