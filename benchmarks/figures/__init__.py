"""What is measured: each module has one `measure(field, effort)` that gives a Figure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..field import Entry, PeerFailed
from ..peers import BY_NAME, Peer

PATTERN = "thread"
"""The lesson's way; it keeps nothing, so it is no durable peer."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: the rounds, and a factor on the work of each."""

    rounds: int
    scale: float

    def of(self, amount: float) -> int:
        """So much of the full amount."""
        return max(1, round(amount * self.scale))


@dataclass(frozen=True)
class Verdict:
    """A target, what was found, and whether it held."""

    target: str
    value: float
    limit: float
    at_least: bool = False
    unit: str = "x"

    @property
    def held(self) -> bool:
        """Whether the target was met."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Figure:
    """One table. rows: by name, the values of `columns`; the first column is the one compared."""

    title: str
    columns: Sequence[str]
    rows: dict[str, Sequence[float | None]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def judge(self, target: str, value: float | None, limit: float, **how: object) -> None:
        """Add a verdict, if both sides were measured."""
        if value is not None:
            self.verdicts.append(Verdict(target, value, limit, **how))  # type: ignore[arg-type]


Samples = dict[str, list[float]]
"""By peer, one value per round."""


def interleave(
    figure: Figure,
    entries: Iterable[Entry],
    rounds: int,
    measure: Callable[[Entry], float],
) -> Samples:
    """Measure every entry in every round, in a new order each time, so that a machine that speeds
    up or slows down does so for all. One that fails is named and left out.
    """
    left = list(entries)
    samples: Samples = {entry.name: [] for entry in left}
    for _ in range(rounds):
        for entry in random.sample(left, len(left)):
            try:
                samples[entry.name].append(measure(entry))
            except (PeerFailed, OSError) as error:
                figure.notes.append(f"{entry.name} left out: {error}")
                left.remove(entry)
                del samples[entry.name]
    return samples


def ratio(samples: Samples, above: str, below: str) -> float | None:
    """How many times `below` is `above`: the median over the rounds."""
    if not samples.get(above) or not samples.get(below):
        return None
    pairs = zip(samples[above], samples[below], strict=False)
    return statistics.median(a / b for a, b in pairs)


def best(samples: Samples, *, high: bool = False, keeps: str | None = None) -> str | None:
    """The best durable peer: not us, not the bare floor, not a thread. keeps: only of those whose
    accepted jobs survive at least this; "power cut" asks for more than "crash"."""
    middle = {
        name: statistics.median(values)
        for name, values in samples.items()
        if values
        and not is_special(BY_NAME[name])
        and (keeps != "power cut" or BY_NAME[name].keeps == keeps)
    }
    if not middle:
        return None
    return (max if high else min)(middle, key=lambda name: middle[name])


def is_special(peer: Peer) -> bool:
    """Whether it is no peer to beat: ourselves, the floor, the thread."""
    return peer.is_flask_offload or peer.is_floor or peer.name == PATTERN


def floor_of(name: str) -> str:
    """The bare SQLite that survives the same as this peer's accepted jobs."""
    return "sqlite-power" if BY_NAME[name].keeps == "power cut" else "sqlite-process"


def tabulate(
    figure: Figure,
    samples: Samples,
    more: Mapping[str, Sequence[float | None]],
    *,
    high: bool = False,
) -> None:
    """Fill the rows: the median, its ratios to the floor and to the best peer, then `more`."""
    top = best(samples, high=high)
    for name, values in samples.items():
        if values:
            compared = [
                ratio(samples, name, floor_of(name)),
                ratio(samples, name, top) if top else None,
            ]
            figure.rows[name] = [statistics.median(values), *compared, *more.get(name, ())]
    figure.rows = dict(sorted(figure.rows.items(), key=lambda row: row[1][0] or 0, reverse=high))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies; nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
