"""The samples, as plain records. They are saved as JSON and read back the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec


def percentile(values: Iterable[float | None], percent: float) -> float | None:
    """Nearest-rank percentile of those values that exist; None if none does.

    percent: above 0, up to 100. With n values every percentile above 100 * (1 - 1/n) is the
    largest value: p99 of fewer than 100 requests is simply the slowest.
    Source: nearest-rank definition (ISO 3534-1's empirical quantile), no interpolation, so that
    every figure shown is a duration that was measured.
    """
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return known[max(math.ceil(percent / 100 * len(known)), 1) - 1]


@dataclass(frozen=True, slots=True)
class ServerTiming:
    """One entry of a `Server-Timing` header; duration in ms."""

    name: str
    duration: float = 0.0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP request. Times in ms; at_s: seconds since the probing began.

    A request that timed out has `error="timed out"`, and the time waited until then as its times:
    a lower bound, without which the figures would be too good. Any other failed request has
    an error and no times.
    """

    at_s: float
    ttfb_ms: float | None = None
    response_ms: float | None = None
    status: int | None = None
    server_ms: float | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None or self.status is None or self.status >= 400


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Requests for one URL, and for a bystander's page also the load meanwhile.

    seconds: how long the probing took. clients: how many clients kept using `slow_url` meanwhile
    (0: the server was idle); they got `slow_answers` answers in that time.
    All figures in ms; each is None when no request was answered.
    """

    url: str
    method: str
    answers: tuple[Answer, ...]
    seconds: float
    clients: int = 0
    slow_url: str | None = None
    slow_answers: int = 0

    @property
    def p50_ms(self) -> float | None:
        """Median response time: from before the connection until the last byte."""
        return percentile((answer.response_ms for answer in self.answers), 50)

    @property
    def p99_ms(self) -> float | None:
        return percentile((answer.response_ms for answer in self.answers), 99)

    @property
    def slowest_ms(self) -> float | None:
        return percentile((answer.response_ms for answer in self.answers), 100)

    @property
    def ttfb_p50_ms(self) -> float | None:
        """Median time until the status line and the headers had arrived."""
        return percentile((answer.ttfb_ms for answer in self.answers), 50)

    @property
    def server_p50_ms(self) -> float | None:
        """Median of what the app itself reports as `total` in Server-Timing."""
        return percentile((answer.server_ms for answer in self.answers), 50)

    @property
    def failed(self) -> int:
        return sum(answer.failed for answer in self.answers)

    @property
    def failures(self) -> dict[str, int]:
        """How many requests failed, by reason."""
        return dict(
            Counter(
                answer.error or f"status {answer.status}"
                for answer in self.answers
                if answer.failed
            )
        )


@dataclass(frozen=True, slots=True)
class LcpParts:
    """The four parts of LCP, in ms; they add up to it.

    Source: web.dev, "Optimize LCP"; computed as the web-vitals library attributes them.
    """

    ttfb: float
    load_delay: float
    load_time: float
    render_delay: float


@dataclass(frozen=True, slots=True)
class PageLoad:
    """One page load in the browser; times in ms since the navigation began, unless said otherwise.

    ttfb_ms: first byte of the page (web.dev's definition); includes every redirect before it.
    waiting_ms: from the last request to its first byte: what DevTools calls waiting.
    response_ms: last byte of the page. redirects: how many were followed.
    server_ms: what the app reported as `total`, added up over the redirects.
    dom_operations: nodes added or removed, those inside them included, and attributes and texts
    changed.
    reflows, style_recalcs: Chromium's LayoutCount and RecalcStyleCount.
    settled: False if the page still changed when observation ended.
    blocked_hosts: hosts that the page requested and that were not allowed.
    None: the browser did not report it (an empty page has neither FCP nor LCP).
    """

    url: str
    status: int | None = None
    redirects: int = 0
    ttfb_ms: float | None = None
    waiting_ms: float | None = None
    response_ms: float | None = None
    fcp_ms: float | None = None
    lcp_ms: float | None = None
    lcp_element: str | None = None
    lcp_parts: LcpParts | None = None
    cls: float = 0.0
    dom_operations: int | None = None
    elements: int | None = None
    reflows: int | None = None
    style_recalcs: int | None = None
    server_ms: float | None = None
    server_timing: tuple[ServerTiming, ...] = ()
    visibility: str | None = None
    settled: bool = True
    blocked_hosts: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether an error page was loaded, or none."""
        return self.status is None or self.status >= 400


@dataclass(frozen=True, slots=True)
class PaintCost:
    """Painting during one traced load: how often, and how long on the CPU, in ms."""

    paints: int
    paint_ms: float
    raster_ms: float
    frames: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What the screen showed from `at_ms` (since the navigation began) on; image is a JPEG."""

    at_ms: float
    image: bytes


@dataclass(frozen=True, slots=True)
class Filmstrip:
    """One filmed load; the first frame shows the page that the visitor came from."""

    frames: tuple[Frame, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Variant:
    """Everything measured of one URL.

    bystander: another page of the same server while clients use this one. idle: that page while
    the server was idle.
    """

    label: str
    url: str
    method: str
    probe: ProbeResult
    bystander: ProbeResult | None = None
    idle: ProbeResult | None = None
    loads: tuple[PageLoad, ...] = ()
    paints: tuple[PaintCost, ...] = ()
    film: Filmstrip | None = None

    def failures(self, *, bystander: bool = True) -> tuple[str, ...]:
        """What failed, in words: an error page is quick, and its figures mean nothing.

        A form may be accepted and lead to a page that fails, so loads count as well as requests.
        bystander: include the requests for the bystander's page.
        """
        counted = [
            ("requests", self.probe.failed, len(self.probe.answers)),
            ("page loads", sum(load.failed for load in self.loads), len(self.loads)),
        ]
        if bystander and self.bystander is not None:
            others = self.bystander
            counted.append(("bystander requests", others.failed, len(others.answers)))
        return tuple(f"{failed} of {n} {what} failed" for what, failed, n in counted if failed)


@dataclass(frozen=True, slots=True)
class Setup:
    """How and where it was measured. load_average: of the last minute, before measuring began.

    work_ms: how long a fixed piece of work took meanwhile: it compares the speed of two runs.
    """

    taken_at: str
    platform: str
    python: str
    cores: int
    load_average: float | None
    browser: str | None
    browser_note: str | None
    start_url: str | None
    watch_s: float
    allowed_hosts: tuple[str, ...]
    work_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The variants in the order of the URLs: the first is "before", the last "after"."""

    setup: Setup
    variants: tuple[Variant, ...]

    def save(self, path: Path) -> None:
        """Write everything, filmstrips included, as JSON."""
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> Measurement:
        """Read what `save` wrote. Raises msgspec.ValidationError for anything else."""
        return msgspec.json.decode(path.read_bytes(), type=cls)
