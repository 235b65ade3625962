"""What an enqueue costs the request that makes it. No worker runs: nothing else is measured."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from ..field import Entry, Field, PeerFailed, Sender
from . import Effort, Figure, Samples, best, interleave, percentile, ratio, tabulate

JOBS = 200
SLOWER = (
    *("celery-redis", "celery-rabbitmq", "rq", "dramatiq"),
    *("procrastinate", "django-tasks-db", "dbos"),
)


def measure(field: Field, effort: Effort) -> Figure:
    """Blocks of enqueues in processes that stay, in turns."""
    figure = Figure("enqueue, p50 of each round", ["µs", "x floor", "x best peer", "p99 µs"])
    tails: Samples = {}
    with ExitStack() as stack:
        entries, senders = _senders(field, stack, figure)

        def block(entry: Entry) -> float:
            took: list[float] = senders[entry.name].ask("enqueue", effort.of(JOBS))
            tails.setdefault(entry.name, []).append(percentile(took, 0.99) * 1e6)
            return statistics.median(took) * 1e6

        interleave(Figure("", []), entries, 1, block)  # warm up
        tails.clear()
        samples = interleave(figure, entries, 2 * effort.rounds + 1, block)
    more = {name: [statistics.median(values)] for name, values in tails.items()}
    tabulate(figure, samples, more)
    _judge(figure, samples)
    return figure


def _senders(
    field: Field, stack: ExitStack, figure: Figure
) -> tuple[list[Entry], dict[str, Sender]]:
    entries, senders = [], {}
    for peer in field.peers:
        entry = field.entry(peer)
        try:
            senders[peer.name] = stack.enter_context(entry.sender())
            entries.append(entry)
        except PeerFailed as error:
            figure.notes.append(f"{peer.name} left out: {error}")
    return entries, senders


def _judge(figure: Figure, samples: Samples) -> None:
    power, process = "offload-power", "offload-process"
    figure.judge("power: x a bare INSERT with fsync", ratio(samples, power, "sqlite-power"), 1.3)
    for name in SLOWER:
        figure.judge(f"power: x {name}", ratio(samples, power, name), 1.0)
    bare = ratio(samples, process, "sqlite-process")
    figure.judge("process: x a bare INSERT without fsync", bare, 4.0)
    figure.judge("process: x starting a thread", ratio(samples, process, "thread"), 1.0)
    top = best(samples)
    if top:
        figure.judge(f"process: x the best peer ({top})", ratio(samples, process, top), 1.0)
