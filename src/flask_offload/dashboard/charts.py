"""The charts of the overview: figures from the engine's counters, as points of an inline SVG."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import NamedTuple

from ..engines.counter_row import BOUNDS, CounterRow
from ..jobs.job import JobStatus

WIDTH, HEIGHT = 480, 120
RANGES = {"1h": (3600.0, 60), "24h": (86_400.0, 1800)}
"""Seconds that a chart shows, and seconds of one of its points."""


@dataclass
class Point:
    """What became of attempts in one part of the time. run_time, wait: seconds of all of them."""

    at: float
    successful: int = 0
    failed: int = 0
    ran: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    waited: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    run_time: float = 0.0
    wait: float = 0.0

    def add(self, row: CounterRow) -> None:
        """Count a row of its time."""
        if row.status is JobStatus.SUCCESSFUL:
            self.successful += row.attempts
        elif row.status is JobStatus.FAILED:
            self.failed += row.attempts
        self.ran = [a + b for a, b in zip(self.ran, row.ran_up_to, strict=True)]
        self.waited = [a + b for a, b in zip(self.waited, row.waited_up_to, strict=True)]
        self.run_time += row.ran
        self.wait += row.waited


@dataclass(frozen=True)
class Bar:
    """One point of the throughput, in pixels: successful jobs, and failed ones on top of them."""

    x: float
    width: float
    done_y: float
    done_height: float
    bad_y: float
    bad_height: float


@dataclass(frozen=True)
class Chart:
    """title: with its unit. bars, or lines: SVG paths by their names. top: what the highest pixel
    stands for. summary: the newest figure and the highest, for those who do not see it."""

    title: str
    top: str
    summary: str
    bars: Sequence[Bar] = ()
    lines: Sequence[tuple[str, str]] = ()


def points(rows: Sequence[CounterRow], seconds: float, step: int, now: float) -> list[Point]:
    """The parts of the last `seconds`, the newest last."""
    first = (now - seconds) // step * step + step
    found = [Point(first + number * step) for number in range(round(seconds / step))]
    for row in rows:
        number = int((row.minute - first) // step)
        if 0 <= number < len(found):
            found[number].add(row)
    return found


def charts(rows: Sequence[CounterRow], name: str) -> list[Chart]:
    """Throughput, wait and run time over one of RANGES."""
    seconds, step = RANGES[name]
    found = points(rows, seconds, step, time.time())
    return [
        _throughput(found, step),
        _times("Wait until the start", [Times(point.waited, point.wait) for point in found]),
        _times("Run time", [Times(point.ran, point.run_time) for point in found]),
    ]


def per_minute(rows: Sequence[CounterRow]) -> float:
    """Jobs that were finished in the last five full minutes, by the minute."""
    until = time.time() // 60 * 60
    final = (JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.CANCELLED)
    recent = (row for row in rows if until - 300 <= row.minute < until and row.status in final)
    return sum(row.attempts for row in recent) / 5


class Times(NamedTuple):
    """How many attempts took up to each of BOUNDS, and how many seconds all of them took."""

    buckets: Sequence[int]
    total: float


def percentile(times: Times, part: float) -> float | None:
    """About how many seconds this part of the attempts took at most; None if there were none."""
    wanted = sum(times.buckets) * part
    if not wanted:
        return None
    lows = [0.0, *BOUNDS]
    surplus = times.total - sum(map(mul, times.buckets, lows))
    below = 0
    for number, count in enumerate(times.buckets):
        if below + count >= wanted:
            low = lows[number]
            # none is longer than what is left when all others are as short as can be
            high: float = min([low + max(0.0, surplus), *BOUNDS[number : number + 1]])
            return low + (high - low) * (wanted - below) / count
        below += count
    return BOUNDS[-1]


def _throughput(found: Sequence[Point], step: int) -> Chart:
    minutes = step / 60
    totals = [(point.successful + point.failed) / minutes for point in found]
    top = max([*totals, 1.0])
    width = WIDTH / len(found)
    bars = []
    for number, point in enumerate(found):
        done = point.successful / minutes / top * HEIGHT
        bad = point.failed / minutes / top * HEIGHT
        if done or bad:
            bars.append(
                Bar(
                    x=round(number * width, 1),
                    width=round(width * 0.85, 1),
                    done_y=round(HEIGHT - done, 1),
                    done_height=round(done, 1),
                    bad_y=round(HEIGHT - done - bad, 1),
                    bad_height=round(bad, 1),
                )
            )
    failed = sum(point.failed for point in found)
    finished = sum(point.successful for point in found) + failed
    return Chart(
        title="Jobs finished per minute",
        top=f"{top:,.0f}" if top >= 10 else f"{top:.1f}",
        summary=f"{finished:,} finished in all, {failed:,} of them failed",
        bars=bars,
    )


def _times(title: str, found: Sequence[Times]) -> Chart:
    series = {
        name: [percentile(each, part) for each in found]
        for name, part in (("line", 0.5), ("second", 0.95))
    }
    known = [value for values in series.values() for value in values if value is not None]
    top = max([*known, 0.01])
    buckets = [sum(column) for column in zip(*(each.buckets for each in found), strict=True)]
    whole = Times(buckets, sum(each.total for each in found))
    half, most = percentile(whole, 0.5), percentile(whole, 0.95)
    summary = "no attempts"
    if half is not None and most is not None:
        summary = f"half within {_seconds(half)}, 95% within {_seconds(most)}"
    lines = [(name, _path(values, top)) for name, values in series.items()]
    return Chart(title=title, top=_seconds(top), summary=summary, lines=lines)


def _path(values: list[float | None], top: float) -> str:
    """A line through the values; it is interrupted where there are none."""
    width = WIDTH / len(values)
    parts, before = [], None
    for number, value in enumerate(values):
        if value is not None:
            x, y = (number + 0.5) * width, HEIGHT - value / top * (HEIGHT - 2) - 1
            is_alone = before is None and values[number + 1 : number + 2] in ([], [None])
            # a single value is a dash, so that it is seen too
            parts.append(
                f"M{x - width / 2:.1f} {y:.1f}h{width:.1f}"
                if is_alone
                else f"{'M' if before is None else 'L'}{x:.1f} {y:.1f}"
            )
        before = value
    return "".join(parts)


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"
