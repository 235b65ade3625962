"""Runs one of the five slow routes and waits for what the spotter says about it."""

from __future__ import annotations

import re
import time

from flask_offload.profiler.store import SpotRow, spot_rows

from ..errors import BenchError
from ..testbed import Bench
from . import Events

NAMES = ("newsletter", "gallery", "weather", "tags", "order")

WRITTEN = 15.0
"""Seconds until the spotter has written down what it found; it takes less than one."""

STEP = re.compile(r"(\w+\.py):(\d+) (\w+)")
"""A step of the chain in the spotter's sentence: `spots.py:52 deliver`."""


def spot(bench: Bench, name: str) -> Events:
    """One event with the response time, one with the finding: sentence, function, line, waiting,
    share, and chain, the lines from the blocking one out to the route's, as [line, function]."""
    route = f"GET /spots/{name}"
    before = _row(bench, route)
    if name == "order":
        bench.club.get("/spots/stocktaking")
    yield {"say": f"Asking for /spots/{name}…"}
    began = time.monotonic()
    bench.club.get(f"/spots/{name}", timeout=60)
    yield {"took": (time.monotonic() - began) * 1000}
    if not bench.until(lambda: _row(bench, route) != before, WRITTEN):
        raise BenchError(
            f"The spotter has found nothing to say about {route}: on this machine it took less"
            " than 200 ms. Run it again."
        )
    found = _row(bench, route)
    assert found is not None
    yield {
        "sentence": found.sentence,
        "function": found.function,
        "line": found.line,
        "waiting": found.waiting,
        "share": found.share,
        "chain": [[int(line), function] for _, line, function in STEP.findall(found.sentence)],
    }


def _row(bench: Bench, route: str) -> SpotRow | None:
    return next((row for row in spot_rows(bench.club.evidence) if row.route == route), None)
