"""The figures: name, unit, stability, and published limits of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from .samples import PageLoad, ProbeResult, Variant, percentile


class Rating(StrEnum):
    """In the words of web-vitals."""

    GOOD = "good"
    FAIR = "needs improvement"
    POOR = "poor"

    @property
    def sign(self) -> str:
        """So that colour is never the only sign."""
        return {Rating.GOOD: "✓", Rating.FAIR: "!", Rating.POOR: "✗"}[self]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Good up to `good`, poor above `poor`, between them it needs improvement."""

    good: float
    poor: float
    source: str
    link: str

    def rate(self, value: float) -> Rating:
        if value <= self.good:
            return Rating.GOOD
        return Rating.FAIR if value <= self.poor else Rating.POOR


def _web_vitals(good: float, poor: float, name: str) -> Threshold:
    return Threshold(good, poor, f"web-vitals: {name.upper()}", f"https://web.dev/articles/{name}")


TTFB = _web_vitals(800, 1_800, "ttfb")
FCP = _web_vitals(1_800, 3_000, "fcp")
LCP = _web_vitals(2_500, 4_000, "lcp")
CLS = _web_vitals(0.1, 0.25, "cls")
LIGHTHOUSE = Threshold(
    600,
    600,
    "Lighthouse: server response time",
    "https://developer.chrome.com/docs/lighthouse/performance/time-to-first-byte",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """median, with the smallest and largest of n values; 80% of them are between p10 and p90."""

    median: float
    low: float
    high: float
    p10: float
    p90: float
    n: int


def summarize(values: Iterable[float | None]) -> Summary | None:
    """None if no value exists."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    p10, p50, p90 = (percentile(known, percent) or 0.0 for percent in (10, 50, 90))
    return Summary(p50, min(known), max(known), p10, p90, len(known))


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the report.

    percent: which percentile is the figure (50: the median). slack: differences up to this are
    noise. stable: False for what varies too much to be a limit in CI.
    """

    key: str
    title: str
    unit: str
    values: Callable[[Variant], Iterable[float | None]]
    threshold: Threshold | None = None
    percent: float = 50
    slack: float = 0.0
    stable: bool = True

    def summary(self, variant: Variant) -> Summary | None:
        return summarize(self.values(variant))

    def value(self, variant: Variant) -> float | None:
        return percentile(self.values(variant), self.percent)

    def rating(self, variant: Variant) -> Rating | None:
        value = self.value(variant)
        return None if value is None or self.threshold is None else self.threshold.rate(value)

    def text(self, value: float | None) -> str:
        return quantity(value, self.unit)

    @property
    def counts(self) -> bool:
        """Whether the unit is also the name: 58 DOM operations, 1 reflow."""
        return self.unit not in ("ms", "score")

    @property
    def name(self) -> str:
        """The title without what is in brackets."""
        return self.title.partition(" (")[0]


def _loads(read: Callable[[PageLoad], float | None]) -> Callable[[Variant], Iterable[float | None]]:
    return lambda variant: [read(load) for load in variant.loads]


def _response(result: ProbeResult | None) -> list[float | None]:
    return [answer.response_ms for answer in result.answers] if result else []


def _first_byte(result: ProbeResult | None) -> list[float | None]:
    return [answer.ttfb_ms for answer in result.answers] if result else []


def _server(result: ProbeResult | None) -> list[float | None]:
    return [answer.server_ms for answer in result.answers] if result else []


HTTP_FIGURES = (
    Figure("http-ttfb", "TTFB, p50", "ms", lambda v: _first_byte(v.probe), LIGHTHOUSE, slack=5),
    Figure("http-ttfb-p99", "TTFB, p99", "ms", lambda v: _first_byte(v.probe), percent=99, slack=5),
    Figure("http-response", "Response time, p50", "ms", lambda v: _response(v.probe), slack=5),
    Figure(
        "http-response-p99",
        "Response time, p99",
        "ms",
        lambda v: _response(v.probe),
        percent=99,
        slack=5,
    ),
    Figure("http-server", "Time in the app, p50", "ms", lambda v: _server(v.probe), slack=5),
)
"""One connection per request, no redirects followed; p99 of fewer than 100 is the slowest."""

BROWSER_FIGURES = (
    Figure("ttfb", "TTFB, from navigation start", "ms", _loads(lambda x: x.ttfb_ms), TTFB, slack=5),
    Figure(
        "waiting",
        "Waiting for the last request (DevTools)",
        "ms",
        _loads(lambda x: x.waiting_ms),
        LIGHTHOUSE,
        slack=5,
    ),
    Figure("response", "Response time", "ms", _loads(lambda x: x.response_ms), slack=10),
    Figure("fcp", "FCP", "ms", _loads(lambda x: x.fcp_ms), FCP, slack=20),
    Figure("lcp", "LCP", "ms", _loads(lambda x: x.lcp_ms), LCP, slack=20),
    Figure("cls", "CLS (score, no unit)", "score", _loads(lambda x: x.cls), CLS, slack=0.001),
    Figure(
        "dom-operations", "DOM operations", "DOM operations", _loads(lambda x: x.dom_operations)
    ),
    Figure("reflows", "Reflows", "reflows", _loads(lambda x: x.reflows), slack=1),
    Figure(
        "style-recalcs",
        "Style recalculations",
        "style recalculations",
        _loads(lambda x: x.style_recalcs),
        slack=1,
    ),
    Figure(
        "paint",
        "Paint cost",
        "ms",
        lambda v: [cost.paint_ms for cost in v.paints],
        slack=5,
        stable=False,
    ),
)
"""Times count from navigation start. Paint comes from extra, traced loads."""

BYSTANDER_FIGURES = (
    Figure(
        "bystander-ttfb",
        "Its TTFB, p50",
        "ms",
        lambda v: _first_byte(v.bystander),
        LIGHTHOUSE,
        slack=10,
    ),
    Figure("bystander", "Its response time, p50", "ms", lambda v: _response(v.bystander), slack=10),
    Figure(
        "bystander-p99",
        "Its response time, p99",
        "ms",
        lambda v: _response(v.bystander),
        percent=99,
        slack=10,
    ),
)
"""The bystander's page while the variant is in use; with the same limits."""

FIGURES = {figure.key: figure for figure in HTTP_FIGURES + BROWSER_FIGURES + BYSTANDER_FIGURES}


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, as precise as it is worth: 4.1 ms, 52 ms, 1,504 ms, 1 reflow."""
    if value is None:
        return "none"
    if unit == "score":
        return f"{value:.3f}"
    if unit != "ms":
        return f"{value:,.0f} {unit.removesuffix('s') if value == 1 else unit}"
    return f"{value:,.1f} ms" if abs(value) < 9.95 else f"{value:,.0f} ms"
