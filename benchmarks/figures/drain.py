"""How fast one worker process empties a queue of jobs that do nothing but note their start."""

from __future__ import annotations

from ..field import Entry, Field, PeerFailed
from ..peers import BY_NAME
from . import Effort, Figure, best, floor_of, interleave, ratio, tabulate

TIMEOUT = 120.0


def measure(field: Field, effort: Effort) -> Figure:
    """A full queue, then a worker; from the first job's start to the last one's."""
    figure = Figure(
        "drain of no-op jobs, one worker process", ["jobs/s", "x floor", "x best peer", "jobs"]
    )

    def drain(entry: Entry) -> float:
        fresh = field.entry(entry.peer)
        count = effort.of(entry.peer.drain)
        with fresh.sender() as sender:
            sender.ask("fill", count)
            if not entry.peer.worker:
                return _rate(fresh, count)
            with fresh.worker():
                return _rate(fresh, count)

    samples = interleave(figure, [field.entry(peer) for peer in field.peers], effort.rounds, drain)
    more = {peer.name: [float(effort.of(peer.drain))] for peer in field.peers}
    tabulate(figure, samples, more, high=True)
    for name in ("offload-power", "offload-process"):
        found = figure.rows.get(name, [None])[0]
        figure.judge(f"{name}: jobs/s", found, 20_000, at_least=True, unit="")
        top = best(samples, high=True, keeps=BY_NAME[name].keeps)
        if top:
            target = f"{name}: x the best peer that is as durable ({top})"
            figure.judge(target, ratio(samples, name, top), 4.0, at_least=True)
    figure.notes.append(
        "Peers that are slow get fewer jobs (last column); their rate is taken to hold for more."
        f" The floor ({floor_of('offload-power')}, sqlite-process) claims, finishes one by one."
    )
    return figure


def _rate(entry: Entry, count: int) -> float:
    if not entry.notes.wait(count, TIMEOUT, 0.01):
        done = entry.notes.count()
        if done < count / 10:
            raise PeerFailed(f"{done} of {count} jobs in {TIMEOUT:g} s: {entry.worker_log}")
    started = [start for _, start in entry.notes.read()]
    return (len(started) - 1) / (started[-1] - started[0])
