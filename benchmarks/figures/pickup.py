"""From before an enqueue to the first line of its task, while the worker has nothing else to do."""

from __future__ import annotations

import random
import statistics

from ..field import Entry, Field
from . import Effort, Figure, Samples, best, interleave, percentile, ratio, tabulate

JOBS = 150
SECONDS = 3.0
TIMEOUT = 30.0


def measure(field: Field, effort: Effort) -> Figure:
    """One job at a time, with 5 to 15 ms between them; each round with a new worker."""
    figure = Figure(
        "pickup by an idle worker, p50 of each round",
        ["ms", "x floor", "x best peer", "p99 ms", "samples"],
    )
    everything: Samples = {}

    def pickup(entry: Entry) -> float:
        with field.entry(entry.peer).ready() as (sender, _):
            took: list[float] = sender.ask(
                "pickup", effort.of(JOBS), SECONDS * effort.scale, TIMEOUT
            )
        everything.setdefault(entry.name, []).extend(took)
        return statistics.median(took) * 1e3

    entries = [field.entry(peer) for peer in field.peers if not peer.is_floor]
    random.shuffle(entries)
    samples = interleave(figure, entries, effort.rounds, pickup)
    more = {
        name: [percentile(values, 0.99) * 1e3, float(len(values))]
        for name, values in everything.items()
    }
    tabulate(figure, samples, more)
    for name in ("offload-power", "offload-process"):
        if name in figure.rows:
            figure.judge(f"{name}: p50", figure.rows[name][0], 0.5, unit="ms")
            figure.judge(f"{name}: p99", figure.rows[name][3], 2.0, unit="ms")
            top = best(samples)
            if top:
                value = ratio(samples, name, top)
                figure.judge(f"{name}: x the best durable peer ({top})", value, 0.5)
    return figure
