"""Runs one of the five slow routes and waits for what the profiler finds."""

from __future__ import annotations

import re
import time
from functools import partial

from flask_offload.profiler import SpotRow, spot_rows

from ..errors import WorkNotDone
from ..testbed import LabTestbed
from . import Events

NAMES = ("newsletter", "gallery", "weather", "tags", "order")

WRITE_TIMEOUT = 15.0
"""Seconds until the profiler has written its findings; it takes less than one."""

STEP = re.compile(r"\b(spots\.py):(\d+) (\w+)")
"""A step of the chain in the profiler's sentence: `spots.py:52 deliver`."""


def spot(testbed: LabTestbed, name: str) -> Events:
    """One event with the response time, one with the finding: sentence, function, line, waiting,
    share, and chain, the lines from the blocking one out to the route's, as [line, function]."""
    route = f"GET /spots/{name}"
    found: SpotRow | None = None
    for last in (False, False, True):
        if name == "order":
            testbed.sample_app.get("/spots/stocktaking")
        yield {"status": f"Asking for /spots/{name}…"}
        before = _row(testbed, route)
        began = time.monotonic()
        testbed.sample_app.get(f"/spots/{name}", timeout=60)
        yield {"took": (time.monotonic() - began) * 1000}
        if not testbed.until(partial(_has_changed, testbed, before, route), WRITE_TIMEOUT):
            raise WorkNotDone(
                f"The profiler has found nothing in {route}: on this machine it took less than"
                " 200 ms. Run it again."
            )
        found = _row(testbed, route)
        if last or _line(found):
            break
        yield {"status": "The profiler did not get to run during this request. Once more…"}
    assert found is not None
    yield {
        "sentence": found.sentence,
        "function": found.function,
        "line": _line(found),
        "waiting": found.waiting,
        "share": found.share,
        "chain": [[int(line), function] for _, line, function in STEP.findall(found.sentence)],
    }


def _line(found: SpotRow | None) -> int:
    """The line of the routes' file that it names; 0 for none, or one of another file."""
    return found.line if found is not None and found.file.endswith("spots.py") else 0


def _has_changed(testbed: LabTestbed, before: SpotRow | None, route: str) -> bool:
    return _row(testbed, route) != before


def _row(testbed: LabTestbed, route: str) -> SpotRow | None:
    return next((row for row in spot_rows(testbed.sample_app.evidence) if row.route == route), None)
