"""The lesson's three tips, each checked on a running app: the sample app, or the reader's own."""

from __future__ import annotations

import time
from typing import TypeAlias
from urllib.request import urlopen

from flask_offload.measure import LIGHTHOUSE, NoAnswer, ProbeResult, percentile, probe
from flask_offload.profiler import sentences_since

from ..sample_app_server import SampleAppServer
from ..testbed import LabTestbed
from ..user_app import UserAppServer
from . import Events

SPOT_ABOVE = 200.0
"""Milliseconds from which the profiler reports a request, unless the app has set it."""

WRITE_TIMEOUT = 15.0
"""Seconds until the profiler has written its findings; it takes less than one."""

VISITS = 2

TIMEOUT = 30.0
"""Seconds for one page."""


CheckedApp: TypeAlias = SampleAppServer | UserAppServer


def no_long_task(app: CheckedApp) -> Events:
    """Tip 1: request every page once; the profiler finds which were blocked, and by what."""
    began = time.time()
    slow: dict[str, float] = {}
    for route in app.routes:
        yield {"status": f"Requesting {route}…"}
        took = _visit(app, route, 1).p50_ms
        if took is not None and took > SPOT_ABOVE:
            slow[route] = took
    if app.evidence is not None:
        LabTestbed.until(lambda: _found(app, began).keys() >= slow.keys(), WRITE_TIMEOUT)
    found = _found(app, began)
    for route in app.routes:
        if route in found:
            yield {"line": f"✗ {found[route]}"}
        elif route in slow:
            yield {"line": f"? {route} took {_ms(slow[route])}, none of it found in the request"}
    fine = len(app.routes) - len(found.keys() | slow.keys())
    yield {"line": f"✓ {fine} of {len(app.routes)} pages: nothing that blocks"}
    yield {"status": f"{len(found)} of {len(app.routes)} pages do long work in the request."}


def background_is_faster(app: CheckedApp) -> Events:
    """Tip 2: the response times of pages that enqueue a job, beside those of the others."""
    enqueueing: list[float | None] = []
    blocking: list[float | None] = []
    for route in app.routes:
        yield {"status": f"Requesting {route}…"}
        result = _visit(app, route, VISITS)
        if _enqueues(app.origin + route):
            enqueueing.append(result.p50_ms)
            yield {"line": f"{route} enqueues a job and answers in {_ms(result.p50_ms)}"}
        elif _is_slow(result):
            blocking.append(result.p50_ms)
            yield {"line": f"{route} enqueues nothing and answers in {_ms(result.p50_ms)}"}
    with_job, without = percentile(enqueueing, 50), percentile(blocking, 50)
    if with_job is None:
        yield {"status": "No page of this app enqueues a job yet, so there is nothing to compare."}
    elif without is None:
        yield {"status": f"Pages that enqueue answer in {_ms(with_job)}; no other page is slow."}
    else:
        yield {
            "status": f"With a job: {_ms(with_job)}. With the work in the request: {_ms(without)}."
        }


def every_route(app: CheckedApp) -> Events:
    """Tip 3: the response time of every page, against Lighthouse's limit."""
    slow = 0
    for route in app.routes:
        yield {"status": f"Requesting {route}…"}
        result = _visit(app, route, VISITS)
        slow += _is_slow(result)
        mark = "✗" if _is_slow(result) else "✓"
        yield {"line": f"{mark} {route}: first byte after {_ms(result.ttfb_p50_ms)}"}
    limit = f"{LIGHTHOUSE.good:.0f} ms"
    yield {"status": f"{len(app.routes)} pages checked, {slow} above {limit} to the first byte."}


CHECKS = {1: no_long_task, 2: background_is_faster, 3: every_route}


def _found(app: CheckedApp, began: float) -> dict[str, str]:
    """The profiler's sentence about each page since then."""
    said = {} if app.evidence is None else sentences_since(app.evidence, began)
    return {route: said[f"GET {route}"] for route in app.routes if f"GET {route}" in said}


def _enqueues(url: str) -> bool:
    """Whether the page reports that it has enqueued a job."""
    with urlopen(url, timeout=TIMEOUT) as response:
        timings = response.headers.get("Server-Timing", "").split(",")
    return any(timing.strip().startswith("enqueue;") for timing in timings)


def _visit(app: CheckedApp, route: str, times: int) -> ProbeResult:
    try:
        return probe(app.origin + route, n=times)
    except NoAnswer as error:
        raise NoAnswer(f"{route}: {error}") from None


def _is_slow(result: ProbeResult) -> bool:
    return result.ttfb_p50_ms is None or result.ttfb_p50_ms > LIGHTHOUSE.good


def _ms(value: float | None) -> str:
    return "no answer" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"
