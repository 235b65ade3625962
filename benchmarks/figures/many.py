"""What a job costs that is enqueued with 999 others."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from ..field import Entry, Field
from . import Effort, Figure, interleave, tabulate

JOBS = 1000


def measure(field: Field, effort: Effort) -> Figure:
    """Only those whose API has it: ourselves, and the floor."""
    figure = Figure("enqueue_many of 1,000, per job", ["µs", "x floor", "x best peer"])
    with ExitStack() as stack:
        peers = [peer for peer in field.peers if peer.is_flask_offload or peer.is_floor]
        entries = [field.entry(peer) for peer in peers]
        senders = {entry.name: stack.enter_context(entry.sender()) for entry in entries}

        def block(entry: Entry) -> float:
            took: list[float] = senders[entry.name].ask("many", JOBS, 3)
            return statistics.median(took) * 1e6

        samples = interleave(figure, entries, 2 * effort.rounds + 1, block)
    tabulate(figure, samples, {})
    for name in ("offload-power", "offload-process"):
        if samples.get(name):
            value = statistics.median(samples[name])
            figure.judge(f"{name}: a job", value, 10.0, unit="µs")
    return figure
