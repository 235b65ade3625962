"""The stages of one page load: server, network and queue, browser. Pure functions.

The time after the page arrived is not all the browser's: a picture that waits for a worker is
fetched meanwhile, which is the server's time, not that of rendering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .samples import PageLoad, Variant


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the wait.

    kind: server, network, body, fetch, browser, or waiting (server and network not told apart).
    """

    kind: str
    title: str
    ms: float


TITLES = {
    "server": "the app",
    "network": "network and queue",
    "body": "receiving the page",
    "fetch": "fetching the largest element",
    "browser": "the browser",
    "waiting": "the app, network and queue",
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages in order; they add up to the whole wait."""

    stages: tuple[Stage, ...]

    @property
    def total_ms(self) -> float:
        return sum(stage.ms for stage in self.stages)

    @property
    def bottleneck(self) -> Stage:
        return max(self.stages, key=lambda stage: stage.ms)

    def share(self, stage: Stage) -> float:
        """0 to 1."""
        return stage.ms / self.total_ms if self.total_ms else 0.0


def pipeline(variant: Variant) -> Pipeline | None:
    """From the browser's load in the middle, or, without a browser, from the probe's medians."""
    if variant.loads:
        load = middle(variant.loads)
        shown = load.lcp_ms or load.fcp_ms
        return _cut(load.server_ms, load.ttfb_ms, load.response_ms, shown, fetch_ms(load))
    probe = variant.probe
    return _cut(probe.server_p50_ms, probe.ttfb_p50_ms, probe.p50_ms, None)


def middle(loads: Sequence[PageLoad]) -> PageLoad:
    """The load of median length. One real load, because its parts add up and medians need not."""
    ordered = sorted(loads, key=lambda load: max(load.lcp_ms or 0.0, load.response_ms or 0.0))
    return ordered[(len(ordered) - 1) // 2]


def fetch_ms(load: PageLoad) -> float:
    """How long the largest element was fetched after the page itself had arrived; 0 for text."""
    parts = load.lcp_parts
    if parts is None or load.response_ms is None:
        return 0.0
    start = parts.ttfb + parts.load_delay
    return max(start + parts.load_time - max(start, load.response_ms), 0.0)


def _cut(
    server: float | None,
    ttfb: float | None,
    response: float | None,
    shown: float | None,
    fetched: float = 0.0,
) -> Pipeline | None:
    if ttfb is None or response is None:
        return None
    stages = []
    if server is None:
        stages.append(_stage("waiting", ttfb))
    else:
        inside = min(server, ttfb)
        stages += [_stage("server", inside), _stage("network", ttfb - inside)]
    stages.append(_stage("body", response - ttfb))
    if shown is not None:
        if fetched:
            stages.append(_stage("fetch", fetched))
        stages.append(_stage("browser", shown - response - fetched))
    return Pipeline(tuple(stages))


def _stage(kind: str, ms: float) -> Stage:
    return Stage(kind, TITLES[kind], max(ms, 0.0))
