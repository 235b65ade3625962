"""What a worker costs that has nothing to do for 12 seconds, and how it picks up a job then."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from ..field import Entry, Field
from . import Effort, Figure, Samples, best, interleave, ratio, tabulate

SECONDS = 12.0
TIMEOUT = 30.0
TICK = os.sysconf("SC_CLK_TCK")


def measure(field: Field, effort: Effort) -> Figure:
    """One worker at a time, as others would share its pages and wake the machine."""
    figure = Figure(
        "a worker after 12 idle seconds",
        ["pickup ms", "x floor", "x best peer", "PSS MiB", "of it anonymous", "idle CPU %"],
    )
    memory: Samples = {}
    anonymous: Samples = {}
    cpu: Samples = {}

    def idle(entry: Entry) -> float:
        with field.entry(entry.peer).ready() as (sender, pid):
            sender.ask("enqueue", 20)
            time.sleep(2.0)  # what follows a start, and a first job, is over
            before, began = _ticks(pid), time.monotonic()
            time.sleep(SECONDS * min(1.0, effort.scale * 2))
            seconds = time.monotonic() - began
            cpu.setdefault(entry.name, []).append((_ticks(pid) - before) / TICK / seconds * 100)
            memory.setdefault(entry.name, []).append(_memory(pid, "Pss") / 1024)
            anonymous.setdefault(entry.name, []).append(_memory(pid, "Pss_Anon") / 1024)
            return float(sender.ask("pickup", 1, SECONDS, TIMEOUT)[0]) * 1e3

    peers = [peer for peer in field.peers if peer.worker and not peer.is_floor]
    rounds = (effort.rounds + 1) // 2
    samples = interleave(figure, [field.entry(peer) for peer in peers], rounds, idle)
    more = {
        name: [statistics.median(each[name]) for each in (memory, anonymous, cpu)]
        for name in samples
    }
    tabulate(figure, samples, more)
    row = figure.rows.get("ours-power")
    if row:
        figure.judge("ours-power: pickup", row[0], 2.0, unit="ms")
        top = best(samples)
        if top:
            value = ratio(samples, "ours-power", top)
            figure.judge(f"ours-power: pickup, x the best peer ({top})", value, 0.5)
        figure.judge("ours-power: PSS of supervisor and child", row[3], 35.0, unit="MiB")
        figure.judge("ours-power: idle CPU", row[5], 0.2, unit="% of a core")
    figure.notes.append(
        f"{rounds} rounds. PSS divides a page by those who share it: other Python programs that"
        " run at the same time make it smaller. CPU in ticks of 10 ms."
    )
    return figure


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
