"""Paint cost from a trace of one load: pure functions over Chromium's trace events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .samples import PaintCost

CATEGORIES = ("devtools.timeline", "disabled-by-default-devtools.timeline")
"""What to trace: enough for Paint, RasterTask and CommitLoad."""

Event = Mapping[str, Any]


def paint_cost(events: Sequence[Event]) -> PaintCost:
    """What painting the measured page cost, the page before it left out.

    Only the process that committed the page counts, and only from that moment on: full Chromium
    paints its own window in other processes, and the start page was painted earlier.
    """
    commit = _last_commit(events)
    if commit is None:
        return PaintCost(0, 0.0, 0.0, 0)
    own = [
        event
        for event in events
        if event.get("pid") == commit["pid"] and event.get("ts", 0) >= commit["ts"]
    ]
    paints = [event for event in own if event["name"] == "Paint"]
    return PaintCost(
        paints=len(paints),
        paint_ms=_total_ms(paints),
        raster_ms=_total_ms(event for event in own if event["name"] == "RasterTask"),
        frames=sum(event["name"] == "PrePaint" for event in own),
    )


def _last_commit(events: Sequence[Event]) -> Event | None:
    commits = [
        event
        for event in events
        if event["name"] == "CommitLoad"
        and event.get("args", {}).get("data", {}).get("isOutermostMainFrame")
    ]
    return max(commits, key=lambda event: event["ts"], default=None)


def _total_ms(events: Iterable[Event]) -> float:
    """Added-up durations; trace events count in microseconds."""
    return sum(float(event.get("dur", 0)) for event in events) / 1000
