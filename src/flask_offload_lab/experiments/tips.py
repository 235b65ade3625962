"""The lesson's three tips, each checked on a running app: the club, or the reader's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.request import urlopen

from flask_offload.measure.figures import LIGHTHOUSE
from flask_offload.measure.http_client import parse_server_timing
from flask_offload.measure.probe import TIMEOUT, NoAnswer, probe
from flask_offload.measure.samples import ProbeResult, percentile
from flask_offload.profiler.store import sentences_since

from ..testbed import Bench
from . import Events

SPOTTED_FROM = 200.0
"""Milliseconds from which the spotter has something to say, unless the app has set it."""

WRITTEN = 15.0
"""Seconds until the spotter has written down what it found; it takes less than one."""

VISITS = 2


class Patient(Protocol):
    """An app that can be checked."""

    origin: str

    @property
    def routes(self) -> Sequence[str]:
        """Pages to ask for."""
        ...

    @property
    def evidence(self) -> Path | None:
        """Where its spotter writes."""
        ...


def no_long_task(app: Patient) -> Events:
    """Tip 1: ask for every page once, and let the spotter say which were blocked, and by what."""
    began = time.time()
    slow: dict[str, float] = {}
    for route in app.routes:
        yield {"say": f"Asking for {route}…"}
        took = _visit(app, route, 1).p50_ms
        if took is not None and took > SPOTTED_FROM:
            slow[route] = took
    if app.evidence is not None:
        Bench.until(lambda: _found(app, began).keys() >= slow.keys(), WRITTEN)
    found = _found(app, began)
    for route in app.routes:
        if route in found:
            yield {"line": f"✗ {found[route]}"}
        elif route in slow:
            yield {"line": f"? {route} took {_ms(slow[route])}, none of it found in the request"}
    fine = len(app.routes) - len(found.keys() | slow.keys())
    yield {"line": f"✓ {fine} of {len(app.routes)} pages: nothing that blocks"}
    yield {"say": f"{len(found)} of {len(app.routes)} pages do long work in the request."}


def background_is_faster(app: Patient) -> Events:
    """Tip 2: the response times of pages that enqueue a job, beside those of the others."""
    enqueueing: list[float | None] = []
    blocking: list[float | None] = []
    for route in app.routes:
        yield {"say": f"Asking for {route}…"}
        result = _visit(app, route, VISITS)
        if _enqueues(app.origin + route):
            enqueueing.append(result.p50_ms)
            yield {"line": f"{route} enqueues a job and answers in {_ms(result.p50_ms)}"}
        elif _is_slow(result):
            blocking.append(result.p50_ms)
            yield {"line": f"{route} enqueues nothing and answers in {_ms(result.p50_ms)}"}
    ours, theirs = percentile(enqueueing, 50), percentile(blocking, 50)
    if ours is None:
        yield {"say": "No page of this app enqueues a job yet, so there is nothing to compare."}
    elif theirs is None:
        yield {"say": f"Pages that enqueue answer in {_ms(ours)}; no other page is slow."}
    else:
        yield {"say": f"With a job: {_ms(ours)}. With the work in the request: {_ms(theirs)}."}


def every_route(app: Patient) -> Events:
    """Tip 3: the response time of every page, against Lighthouse's limit."""
    slow = 0
    for route in app.routes:
        yield {"say": f"Asking for {route}…"}
        result = _visit(app, route, VISITS)
        slow += _is_slow(result)
        mark = "✗" if _is_slow(result) else "✓"
        yield {"line": f"{mark} {route}: first byte after {_ms(result.ttfb_p50_ms)}"}
    limit = f"{LIGHTHOUSE.good:.0f} ms"
    yield {"say": f"{len(app.routes)} pages checked, {slow} above {limit} to the first byte."}


CHECKS = {1: no_long_task, 2: background_is_faster, 3: every_route}


def _found(app: Patient, began: float) -> dict[str, str]:
    """What the spotter has said about each page since then."""
    said = {} if app.evidence is None else sentences_since(app.evidence, began)
    return {route: said[f"GET {route}"] for route in app.routes if f"GET {route}" in said}


def _enqueues(url: str) -> bool:
    """Whether the page says that it has made a job of something."""
    with urlopen(url, timeout=TIMEOUT) as response:
        timings = parse_server_timing(response.headers.get_all("Server-Timing") or [])
    return any(timing.name == "enqueue" for timing in timings)


def _visit(app: Patient, route: str, times: int) -> ProbeResult:
    try:
        return probe(app.origin + route, n=times)
    except NoAnswer as error:
        raise NoAnswer(f"{route}: {error}") from None


def _is_slow(result: ProbeResult) -> bool:
    return result.ttfb_p50_ms is None or result.ttfb_p50_ms > LIGHTHOUSE.good


def _ms(value: float | None) -> str:
    return "no answer" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
