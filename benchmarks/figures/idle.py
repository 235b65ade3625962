"""What a worker costs that has nothing to do for 12 seconds, and how it picks up a job then."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ..field import Entry, Field, PeerFailed
from ..peers import Peer
from . import Effort, Figure, Samples, best, interleave, ratio, tabulate

SECONDS = 12.0
TIMEOUT = 30.0
TICK = os.sysconf("SC_CLK_TCK")


ROUNDS = 5


def measure(field: Field, effort: Effort) -> Figure:
    """The pickup of all workers in one go; then memory and CPU of one worker at a time, as others
    would share its pages and wake the machine.
    """
    figure = Figure(
        "a worker after 12 idle seconds",
        ["pickup ms", "x floor", "x best peer", "PSS MiB", "of it anonymous", "idle CPU %"],
    )
    seconds = SECONDS * min(1.0, effort.scale * 2)
    peers = [peer for peer in field.peers if peer.worker and not peer.is_floor]
    samples = _pickups(field, figure, peers, seconds, effort.of(ROUNDS))
    more: dict[str, list[float | None]] = {name: [] for name in samples}

    def cost(entry: Entry) -> float:
        with entry.ready() as (sender, pid):
            sender.ask("enqueue", 20)
            time.sleep(2.0)  # what follows a start, and a first job, is over
            before, began = _ticks(pid), time.monotonic()
            time.sleep(seconds)
            cpu = (_ticks(pid) - before) / TICK / (time.monotonic() - began) * 100
            memory, anonymous = _memory(pid, "Pss") / 1024, _memory(pid, "Pss_Anon") / 1024
        more[entry.name] = [memory, anonymous, cpu]
        return memory

    interleave(figure, [field.entry(peer) for peer in peers if peer.name in samples], 1, cost)
    tabulate(figure, samples, more)
    _judge(figure, samples)
    figure.notes.append(
        "PSS divides a page by those who share it: other Python programs that run at the same time"
        " make it smaller. CPU in ticks of 10 ms."
    )
    return figure


def _pickups(
    field: Field, figure: Figure, peers: list[Peer], seconds: float, rounds: int
) -> Samples:
    """Milliseconds; before each round all are left alone for so many seconds."""
    with ExitStack() as stack:
        senders, entries = {}, []
        for peer in peers:
            entry = field.entry(peer)
            try:
                senders[peer.name] = stack.enter_context(entry.ready())[0]
                entries.append(entry)
            except PeerFailed as error:
                figure.notes.append(f"{peer.name} left out: {error}")
        samples: Samples = {entry.name: [] for entry in entries}
        for _ in range(rounds):
            time.sleep(seconds)
            for entry in random.sample(entries, len(entries)):
                (took,) = senders[entry.name].ask("pickup", 1, seconds, TIMEOUT)
                samples[entry.name].append(took * 1e3)
    return samples


def _judge(figure: Figure, samples: Samples) -> None:
    top = best(samples)
    for name in ("offload-power", "offload-process"):
        row = figure.rows.get(name)
        if row:
            figure.judge(f"{name}: pickup", row[0], 2.0, unit="ms")
            value = ratio(samples, name, top) if top else None
            figure.judge(f"{name}: pickup, x the best peer ({top})", value, 0.5)
            figure.judge(f"{name}: PSS of supervisor and child", row[3], 35.0, unit="MiB")
            figure.judge(f"{name}: idle CPU", row[5], 0.2, unit="% of a core")


def tree(pid: int) -> Iterator[int]:
    """The process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def _memory(pid: int, field: str) -> int:
    """KiB of the whole tree."""
    total = 0
    for process in tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{field}:"):
                total += int(line.split()[1])
    return total


def _ticks(pid: int) -> int:
    """Processor time of the whole tree."""
    total = 0
    for process in tree(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))  # its own, and of children that have ended
    return total
