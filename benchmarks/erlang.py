"""How long jobs wait in one line for several servers: Erlang's formula, and a simulation.

The formula is Erlang's for a queue with c servers (M/M/c): A. K. Erlang, "Solution of some Problems
in the Theory of Probabilities of Significance in Automatic Telephone Exchanges", 1917; derived in
L. Kleinrock, "Queueing Systems, Volume 1: Theory", Wiley 1975, section 3.5. It takes jobs that come
independently of one another, a service time that is exponentially distributed, and one line. For
other service times there is the approximation of Allen and Cunneen (A. O. Allen, "Probability,
Statistics, and Queueing Theory", Academic Press, 2nd ed. 1990): the mean wait times (1 + cv²) / 2.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SEED = 1917
WARM_UP = 0.1
"""The share of simulated jobs that only fill the line and do not count."""


@dataclass(frozen=True)
class Load:
    """rate: jobs that come per second. service: mean seconds that one takes. servers: how many run
    at once: the threads of all processes of all workers."""

    rate: float
    service: float
    servers: int

    @property
    def offered(self) -> float:
        """How many servers are busy on average (in erlangs)."""
        return self.rate * self.service

    @property
    def busy(self) -> float:
        """The share of their time for which they are; from 1 on, the line grows for ever."""
        return self.offered / self.servers

    @property
    def must_wait(self) -> float:
        """Erlang C: the share of jobs that find every server busy."""
        if self.busy >= 1:
            return 1.0
        blocked = 1.0  # Erlang B, by its recursion: no factorials, so nothing overflows
        for count in range(1, self.servers + 1):
            blocked = self.offered * blocked / (count + self.offered * blocked)
        return blocked / (1 - self.busy * (1 - blocked))

    @property
    def mean_wait(self) -> float:
        """Seconds that a job waits on average, those included that don't wait."""
        if self.busy >= 1:
            return math.inf
        return self.must_wait / (self.servers / self.service - self.rate)

    def wait(self, share: float) -> float:
        """Seconds within which this share of all jobs has started; 0.95 gives the p95."""
        if self.busy >= 1:
            return math.inf
        if self.must_wait <= 1 - share:
            return 0.0
        spare = self.servers / self.service - self.rate
        return math.log(self.must_wait / (1 - share)) / spare


def servers_needed(rate: float, service: float, within: float, share: float = 0.95) -> int:
    """The fewest servers with which this share of jobs starts within so many seconds."""
    servers = math.floor(rate * service) + 1
    while Load(rate, service, servers).wait(share) > within:
        servers += 1
    return servers


# --- the simulation ------------------------------------------------------------------------------

Draw = Callable[[random.Random, float], float]
"""A service time with this mean."""


def exponential(chance: random.Random, mean: float) -> float:
    """Mostly short, sometimes long; cv² = 1."""
    return chance.expovariate(1 / mean)


def constant(chance: random.Random, mean: float) -> float:
    """Always the same; cv² = 0."""
    return mean


def mixed(chance: random.Random, mean: float) -> float:
    """Nine short ones for each that is 31 times as long; cv² = 5.06."""
    return mean * (7.75 if chance.random() < 0.1 else 0.25)


SHAPES: dict[str, tuple[Draw, float]] = {
    "exponential": (exponential, 1.0),
    "constant": (constant, 0.0),
    "mixed": (mixed, 5.0625),
}
"""A way to draw, and the squared coefficient of variation (variance / mean²)."""


def simulate(load: Load, jobs: int, draw: Draw = exponential, seed: int = SEED) -> list[float]:
    """Seconds that each job waited, in the order of their coming: one line, first come, first
    served, event by event. No formula is in it."""
    chance = random.Random(seed)
    free_at = [0.0] * load.servers
    now = 0.0
    waits = []
    for _ in range(jobs):
        now += chance.expovariate(load.rate)
        started = max(now, free_at[0])
        heapq.heapreplace(free_at, started + draw(chance, load.service))
        waits.append(started - now)
    return waits[int(jobs * WARM_UP) :]


@dataclass(frozen=True)
class Seen:
    """What was observed, to be held against a Load's properties of the same names."""

    must_wait: float
    mean_wait: float
    p95: float

    @classmethod
    def of(cls, waits: Sequence[float], unnoticed: float = 0.0) -> Seen:
        """unnoticed: a wait up to so many seconds is none."""
        ranked = sorted(waits)
        return cls(
            sum(wait > unnoticed for wait in ranked) / len(ranked),
            statistics.fmean(ranked),
            ranked[int(0.95 * len(ranked))],
        )
