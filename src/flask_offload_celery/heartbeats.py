"""Which other workers are dead, as one worker sees it.

A worker of this machine is dead when its process has ended. Any other is dead when its number in
`beats` has not grown for SILENT seconds of observation. No clocks are compared, and time without
observation (Redis was down, this machine slept) does not count: after an outage every worker has
SILENT seconds to send a heartbeat.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final

from .redis_store import RedisStore
from .worker_identity import is_surely_dead

SILENT: Final = 15.0
GAP: Final = 3.0
"""Seconds between two observations from which on the time between them does not count."""


@dataclass
class BeatSeen:
    """A worker's newest heartbeat, and the observed seconds without another."""

    beat: int
    quiet: float = 0.0


class Heartbeats:
    """What this worker has observed. own: its id."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._seen: dict[str, BeatSeen] = {}
        self._observed_at: float | None = None

    def dead(self, store: RedisStore) -> list[str]:
        """Observe; the ids of the workers that are dead. Raises EngineUnavailable."""
        commands = [("HGETALL", "workers"), ("HGETALL", "beats")]
        workers, beats = store.ask_all(commands)
        now = time.monotonic()
        passed = 0.0 if self._observed_at is None else now - self._observed_at
        self._observed_at = now
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
            self._seen[worker] = BeatSeen(beat)
            return 0.0
        if passed <= GAP:
            seen.quiet += passed
        return seen.quiet
