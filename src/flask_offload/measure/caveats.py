"""Where a figure alone would mislead, and where measuring failed. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .figures import FIGURES, quantity
from .pipeline import fetch_ms, middle
from .samples import Variant

HIDDEN_MS = 100
"""A wait that a figure hides is worth a sentence from this on: people notice 100 ms
(Nielsen, "Response Times: The 3 Important Limits")."""
LATE_MS = 500
"""This long after the page arrived, its largest element is late. Not a standard limit: without
waiting for anything, rendering took about 55 ms."""
SPREAD = 2.0
"""Slowest load this many times the median: the machine was busy."""


@dataclass(frozen=True, slots=True)
class Caveat:
    """sentence: what is the case. remedy: how to read it, or how to fix it."""

    sentence: str
    remedy: str
    number: float | None = None
    unit: str = ""


def caveats(variant: Variant) -> Iterator[Caveat]:
    """Figures that differ from what the visitor experienced."""
    if not variant.loads:
        return
    load = middle(variant.loads)
    if load.redirects and load.ttfb_ms is not None and load.waiting_ms is not None:
        hidden = load.ttfb_ms - load.waiting_ms
        if hidden > HIDDEN_MS:
            yield Caveat(
                f"DevTools shows {quantity(load.waiting_ms, 'ms')} of waiting for the last "
                f"request, but the redirect before it took most of {quantity(load.ttfb_ms, 'ms')}",
                "read TTFB from navigation start: it includes the request that was redirected",
                hidden,
                "ms",
            )
    if load.ttfb_ms is not None and load.response_ms is not None:
        late = load.response_ms - load.ttfb_ms
        if late > max(HIDDEN_MS, load.ttfb_ms):
            yield Caveat(
                f"the first byte came after {quantity(load.ttfb_ms, 'ms')}, the last one only "
                f"after {quantity(load.response_ms, 'ms')}: the body was sent slowly",
                "a good TTFB says little here: look at LCP and at the response time",
                late,
                "ms",
            )
    yield from _paint_caveats(variant)


def _paint_caveats(variant: Variant) -> Iterator[Caveat]:
    load = middle(variant.loads)
    if load.fcp_ms is None:
        yield Caveat("the page shows nothing, so it has neither FCP nor LCP", "is the page empty?")
    elif load.lcp_ms is None:
        yield Caveat(
            "nothing on the page counts for LCP",
            "an image that fills the window, is transparent or below the fold is left out",
        )
    elif load.response_ms is not None and load.lcp_ms - load.response_ms > LATE_MS:
        after = load.lcp_ms - load.response_ms
        fetched = fetch_ms(load)
        remedy = (
            "a result shown late counts as LCP until the visitor clicks or types: "
            "keep room for it, or show it smaller"
        )
        if fetched > after / 2:
            remedy = (
                f"{quantity(fetched, 'ms')} of that it was being fetched: "
                "it may wait for a free worker, like any other request"
            )
        yield Caveat(
            f"its largest element ({load.lcp_element or 'unknown'}) appeared "
            f"{quantity(after, 'ms')} after the page had arrived",
            remedy,
            after,
            "ms",
        )


def problems(variant: Variant) -> Iterator[Caveat]:
    """Reasons not to trust the figures of this variant."""
    results = [variant.probe, variant.bystander]
    for name, probe in zip(("requests", "bystander requests"), results, strict=True):
        if probe is not None and probe.failed:
            why = ", ".join(f"{reason}: {count}" for reason, count in probe.failures.items())
            yield Caveat(
                f"{probe.failed} of {len(probe.answers)} {name} failed ({why})",
                "fix this first: an error page is quick, and its figures mean nothing",
                probe.failed,
                "requests",
            )
    yield from _load_problems(variant)


def _load_problems(variant: Variant) -> Iterator[Caveat]:
    loads = variant.loads
    statuses = Counter(load.status for load in loads if load.failed)
    for status, count in statuses.items():
        yield Caveat(
            f"{count} of {len(loads)} page loads ended with status {status}",
            "fix this first: an error page is quick, and its figures mean nothing",
            count,
            "loads",
        )
    restless = sum(not load.settled for load in loads)
    if restless:
        yield Caveat(
            f"{restless} of {len(loads)} page loads still changed when the watching ended",
            "LCP, CLS, DOM operations and reflows are lower bounds: watch longer with --watch",
            restless,
            "loads",
        )
    hidden = sum(load.visibility not in (None, "visible") for load in loads)
    if hidden:
        yield Caveat(
            f"{hidden} of {len(loads)} page loads were not visible",
            "a hidden page paints late or never: FCP and LCP mean nothing",
            hidden,
            "loads",
        )
    blocked = sorted({host for load in loads for host in load.blocked_hosts})
    if blocked:
        yield Caveat(
            f"the page asked for {', '.join(blocked)}, which was blocked",
            "if it matters for the page, allow it with --allow-host",
            len(blocked),
            "hosts",
        )
    yield from _spread(variant)


def _spread(variant: Variant) -> Iterator[Caveat]:
    figure = FIGURES["ttfb"]
    summary = figure.summary(variant)
    if summary and summary.median > HIDDEN_MS and summary.high > SPREAD * summary.median:
        yield Caveat(
            f"TTFB spreads from {figure.text(summary.low)} to {figure.text(summary.high)}",
            "the machine was busy, or the page is: measure again, with more --runs",
            summary.high,
            "ms",
        )
