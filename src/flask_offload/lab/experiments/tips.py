"""The lesson's three tips, each checked on a running app: the club, or the reader's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.request import urlopen

from ...evidence.figures import LIGHTHOUSE
from ...evidence.probe import TIMEOUT, NoAnswer, probe
from ...evidence.samples import ProbeResult, percentile
from ...evidence.spot_store import spot_rows
from ...evidence.wire import parse_server_timing
from . import Events

WRITTEN_AFTER = 1.2
"""Seconds until the spotter has written down what it found."""

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
    before = _found(app)
    for route in app.routes:
        yield {"say": f"Asking for {route}…"}
        _visit(app, route, 1)
    time.sleep(WRITTEN_AFTER)
    blocked = [text for route, text in _found(app).items() if text != before.get(route)]
    for text in blocked:
        yield {"line": f"✗ {text}"}
    fine = len(app.routes) - len(blocked)
    yield {"line": f"✓ {fine} of {len(app.routes)} pages: nothing that blocks"}
    yield {"say": f"{len(blocked)} of {len(app.routes)} pages do long work in the request."}


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


def _found(app: Patient) -> dict[str, str]:
    """The spotter's latest sentence about each route; its times tell an old one from a new."""
    rows = [] if app.evidence is None else spot_rows(app.evidence)
    return {row.route: row.sentence for row in rows}


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
