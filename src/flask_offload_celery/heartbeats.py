"""Which other workers are dead, as one worker sees it.

A worker of this machine is dead when its process is gone. Any other is dead when it has been
silent for SILENT seconds that we have watched ourselves: its number in `beats` has not grown while
we could see it. No clocks are compared, and time in which we could not look (Redis was down, our
own machine slept) does not count: after an outage all workers get their time to say something.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

from .redis_store import Ledger
from .worker_identity import is_surely_dead

SILENT: Final = 15.0
GAP: Final = 3.0
"""Seconds between two looks from which on what lay between was not watched."""


@dataclass
class Seen:
    """A worker's newest beat, and for how long we have seen none after it."""

    beat: int
    quiet: float = 0.0


class Watch:
    """Remembers what it saw at the last look."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._seen: dict[str, Seen] = {}
        self._looked_at: float | None = None

    def dead(self, ledger: Ledger) -> list[str]:
        """Look; the ids of the workers that are dead. Raises EngineUnavailable."""
        commands = [("HGETALL", "workers"), ("HGETALL", "beats")]
        workers, beats = ledger.ask_all(commands)
        now = time.monotonic()
        passed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        found = []
        for worker in {*workers, *beats} - {self._own}:
            quiet = self._quiet(worker, int(beats.get(worker, 0)), passed)
            is_gone = worker in workers and is_surely_dead(json.loads(workers[worker]))
            if is_gone or quiet >= SILENT:
                found.append(worker)
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in beats}
        return found

    def _quiet(self, worker: str, beat: int, passed: float) -> float:
        seen = self._seen.get(worker)
        if seen is None or seen.beat != beat:
            self._seen[worker] = Seen(beat)
            return 0.0
        if passed <= GAP:
            seen.quiet += passed
        return seen.quiet
