"""A PageLoad from observe.js, Chromium's counters and the headers. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .http_client import parse_server_timing, server_total
from .samples import LcpParts, PageLoad, ServerTiming

SHIFT_GAP_MS = 1_000
SHIFT_WINDOW_MS = 5_000


def page_load(
    notes: Mapping[str, Any],
    counters: Mapping[str, float],
    hops: Sequence[Sequence[str]],
    *,
    url: str,
    status: int | None,
    settled: bool = True,
    blocked_hosts: Iterable[str] = (),
) -> PageLoad:
    """Combine the sources; whatever the browser did not report becomes None.

    notes: what observe.js read. counters: Chromium's Performance.getMetrics.
    hops: the Server-Timing headers of every redirect and of the page itself, in order.
    """
    navigation = notes.get("navigation") or {}
    lcp = notes.get("lcp") or {}
    timings = [parse_server_timing(headers) for headers in hops]
    return PageLoad(
        url=url,
        status=status,
        redirects=max(len(hops) - 1, 0),
        ttfb_ms=_since_start(navigation, "responseStart"),
        waiting_ms=_between(navigation, "requestStart", "responseStart"),
        response_ms=_since_start(navigation, "responseEnd"),
        fcp_ms=notes.get("fcp"),
        lcp_ms=lcp.get("time"),
        lcp_element=lcp.get("element"),
        lcp_parts=lcp_parts(lcp.get("time"), navigation, notes.get("resource")),
        cls=cumulative_layout_shift(notes.get("shifts") or ()),
        dom_operations=notes.get("operations"),
        elements=notes.get("elements"),
        reflows=_count(counters, "LayoutCount"),
        style_recalcs=_count(counters, "RecalcStyleCount"),
        server_ms=_server_ms(timings),
        server_timing=tuple(timing for hop in timings for timing in hop),
        visibility=notes.get("visibility"),
        settled=settled,
        blocked_hosts=tuple(sorted(set(blocked_hosts))),
    )


def lcp_parts(
    lcp_ms: float | None, navigation: Mapping[str, Any], resource: Mapping[str, Any] | None
) -> LcpParts | None:
    """LCP's four parts; None without an LCP. Text needs no resource: its middle parts are 0 ms.

    Source: the attribution build of the web-vitals library; each boundary is kept between
    the others, so the parts are never negative and always add up to LCP.
    """
    ttfb = _since_start(navigation, "responseStart")
    if lcp_ms is None or ttfb is None:
        return None
    first_byte = min(ttfb, lcp_ms)
    start, end = (resource["start"], resource["end"]) if resource else (first_byte, first_byte)
    load_start = min(max(start, first_byte), lcp_ms)
    load_end = min(max(end, load_start), lcp_ms)
    return LcpParts(first_byte, load_start - first_byte, load_end - load_start, lcp_ms - load_end)


def cumulative_layout_shift(shifts: Iterable[Sequence[float]]) -> float:
    """CLS of (time in ms, score) pairs: the largest session window.

    A window ends 1 s after its last shift, or 5 s after its first. Source: web.dev, "CLS".
    """
    largest = window = 0.0
    first = last = float("-inf")
    for time, score in shifts:
        if time - last >= SHIFT_GAP_MS or time - first >= SHIFT_WINDOW_MS:
            window, first = 0.0, time
        window, last = window + score, time
        largest = max(largest, window)
    return largest


def _server_ms(hops: Sequence[Sequence[ServerTiming]]) -> float | None:
    """The app's own time over all redirects; None unless every hop reported it: a sum with a
    gap would look like a quick server and a slow network."""
    totals = [server_total(timings) for timings in hops]
    known = [total for total in totals if total is not None]
    return sum(known) if known and len(known) == len(totals) else None


def _since_start(navigation: Mapping[str, Any], event: str) -> float | None:
    return _between(navigation, "startTime", event)


def _between(navigation: Mapping[str, Any], earlier: str, later: str) -> float | None:
    """None unless both happened: the browser writes 0 for an event that never came."""
    start, end = navigation.get(earlier), navigation.get(later)
    return end - start if start is not None and end else None


def _count(counters: Mapping[str, float], name: str) -> int | None:
    value = counters.get(name)
    return None if value is None else int(value)
