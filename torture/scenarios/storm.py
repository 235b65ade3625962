"""kill -9 at random moments, to everybody who takes part."""

from __future__ import annotations

import math
import random
import time
from collections import Counter

from proc import alive, descendants, parent
from support import Running

from ..scenario import BOTH, Run, scenario
from ..world import Web, World

TARGETS = {"child": 50, "supervisor": 15, "group": 6, "enqueuer": 10, "web": 15, "server": 4}
"""How often whom: a child that runs jobs; a supervisor, whose children die with it; its whole
process group; a process that enqueues; a web process, perhaps one that keeps a worker; the whole
web server with all that came from it."""


@scenario(
    "T1",
    "kill -9 of children, supervisors, process groups, enqueuers, web processes with their keepers"
    " and whole servers, at random moments",
    in_ci=True,
    stores=BOTH,
)
def storm(run: Run) -> None:
    kills, jobs = run.size(20, 1_000), run.size(1_500, 100_000)
    with run.world() as world:
        world.watch()
        weather = Weather(world, run.chance, jobs)
        with weather.web.client(pause=0.02):
            kills = weather.rage(kills, run.length or math.inf)
        done_in = weather.calm()
        audit = world.audit()
    run.figure(
        "kills", f"{kills:,}: " + ", ".join(f"{n} {w}" for w, n in weather.killed.most_common())
    )
    run.times("from the kill to the new start of a job that it hit", audit.restarts)
    thrice = sum(n for why, n in audit.reasons.items() if "crash 3 of 3" in why)
    once = sum(n for why, n in audit.reasons.items() if "on_crash='fail'" in why)
    run.figure("failed", f"{once} that may not run twice, {thrice} after three crashes")
    run.figure("seconds", f"{done_in:.0f}")
    run.judge(audit)
    strange = [error for error in weather.web.errors if error[0].isdigit()]
    run.figure("requests", f"{weather.web.requests:,}, {weather.web.refused} answered with 503")
    run.gate("no answer but 202 and 503", strange[:3], not strange)
    run.gate(
        "jobs that ran again",
        f"{audit.again} after {kills} kills",
        audit.again <= kills * JOBS_AT_ONCE,
    )
    if run.long:  # a short storm may miss
        hits = len(audit.restarts)
        run.gate("processes with running jobs were killed", f"{hits} times", hits > kills / 20)


JOBS_AT_ONCE = 40
"""More than that a single kill cannot hit: threads and coroutines of the processes it kills."""


class Weather:
    """Two workers, two enqueuers and a web server with a worker of its own, and the kills."""

    def __init__(self, world: World, chance: random.Random, jobs: int) -> None:
        self.world, self.chance = world, chance
        self.killed: Counter[str] = Counter()
        self._wanted = jobs
        self._workers = [self._new_worker() for _ in range(2)]
        self.web = self._new_web()
        self._enqueuers = [self._new_enqueuer() for _ in range(2)]
        self._began = time.monotonic()

    def rage(self, kills: int, seconds: float) -> int:
        """So many kills, while the jobs come and go; fewer if the time is over. How many."""
        until = self._began + seconds
        while sum(self.killed.values()) < kills and time.monotonic() < until:
            time.sleep(self.chance.expovariate(1 / 0.4))
            (what,) = self.chance.choices(list(TARGETS), list(TARGETS.values()))
            self.killed[what] += getattr(self, f"_kill_{what}")()
            self._restart()
        if time.monotonic() >= until:
            self._wanted = 0
        return sum(self.killed.values())

    def calm(self) -> float:
        """Until everything is enqueued and done; the seconds since the beginning."""
        while not self._all_enqueued():
            self._restart()
            time.sleep(0.1)
        for process in self._enqueuers:  # each may have a few jobs more than were wanted
            self.world.kill("enqueuer", process.pid)
        self.world.quiesce(60)
        return time.monotonic() - self._began

    # --- kills; each says whether there was one ---

    def _kill_child(self) -> bool:
        parents = [worker.pid for worker in self.world.workers()]
        children = [child for above in parents for child in descendants(above)]
        return self._fall("child", children)

    def _kill_supervisor(self) -> bool:
        pids = [worker.pid for worker in self.world.workers()]
        if not pids:
            return False
        pid = self.chance.choice(pids)
        self.world.kill("supervisor", pid)
        return True

    def _kill_group(self) -> bool:
        leader = self.chance.choice(self._workers).pid
        self.world.kill_group("group", leader)
        return True

    def _kill_enqueuer(self) -> bool:
        return self._fall("enqueuer", [process.pid for process in self._enqueuers])

    def _kill_web(self) -> bool:
        """The worker that it may have kept is the child of a web process, and lives on."""
        master = self.web.process.pid
        children = [pid for pid in descendants(master) if parent(pid) == master]
        return self._fall("web", children, alone=True)

    def _kill_server(self) -> bool:
        self.world.kill_group("server", self.web.process.pid)
        return True

    def _fall(self, what: str, pids: list[int], *, alone: bool = False) -> bool:
        living = [pid for pid in pids if alive(pid)]
        if not living:
            return False
        self.world.kill(what, self.chance.choice(living), alone=alone)
        return True

    # --- new ones for those that died ---

    def _restart(self) -> None:
        self._workers = [
            worker if worker.popen.poll() is None else self._new_worker()
            for worker in self._workers
        ]
        self._enqueuers = [
            process if process.popen.poll() is None else self._new_enqueuer()
            for process in self._enqueuers
        ]
        if self.web.process.popen.poll() is not None:
            self._restart_web()

    def _new_worker(self) -> Running:
        return self.world.worker("--processes", "2", wait=False)

    def _new_enqueuer(self) -> Running:
        return self.world.enqueuer(self._left(), self.chance.randrange(10**9), 0.02)

    def _new_web(self) -> Web:
        return self.world.gunicorn("--workers", "2")

    def _restart_web(self) -> None:
        new = self._new_web()  # the client asks there; what it got before is not forgotten
        self.web.process, self.web.url = new.process, new.url

    def _left(self) -> int:
        return max(1, self._wanted - len(self.world.lines("accepted")))

    def _all_enqueued(self) -> bool:
        return len(self.world.lines("accepted")) >= self._wanted
