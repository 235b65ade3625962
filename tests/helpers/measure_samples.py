"""Hand-made samples: what a slow page and its quick twin look like when they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flask_offload.measure.samples import (
    Answer,
    Filmstrip,
    Frame,
    LcpParts,
    Measurement,
    PageLoad,
    PaintCost,
    ProbeResult,
    Setup,
    Variant,
)
from measured_app import noise_png

SETUP = Setup(
    taken_at="2026-01-02T03:04:05+00:00",
    platform="Linux x86_64",
    python="3.11.0",
    cores=2,
    load_average=0.5,
    browser="Chromium 1.2.3 (headless shell)",
    browser_note=None,
    start_url=None,
    watch_s=0.0,
    allowed_hosts=(),
)


def page_load(wait_ms: float, **changes: object) -> PageLoad:
    """A load whose server took `wait_ms`."""
    load = PageLoad(
        url="http://127.0.0.1/page",
        status=200,
        ttfb_ms=wait_ms + 4,
        waiting_ms=wait_ms + 2,
        response_ms=wait_ms + 6,
        fcp_ms=wait_ms + 50,
        lcp_ms=wait_ms + 60,
        lcp_element="img",
        lcp_parts=LcpParts(wait_ms + 4, 10.0, 20.0, 26.0),
        dom_operations=75,
        elements=38,
        reflows=1,
        style_recalcs=2,
        server_ms=wait_ms,
        visibility="visible",
    )
    return replace(load, **changes)  # type: ignore[arg-type]


def loads(wait_ms: float, **changes: object) -> tuple[PageLoad, ...]:
    """Five loads, a little apart."""
    return tuple(page_load(wait_ms + extra, **changes) for extra in (0, 1, 2, 3, 4))


def probed(times_ms: Sequence[float], server_ms: float | None = None) -> ProbeResult:
    answers = tuple(
        Answer(index * 0.25, time - 0.5, time, 200, server_ms)
        for index, time in enumerate(times_ms)
    )
    return ProbeResult("http://127.0.0.1/page", "GET", answers, seconds=1.0)


def bystander(times_ms: Sequence[float]) -> ProbeResult:
    """While four clients were busy elsewhere; the app itself always took 2 ms."""
    return replace(
        probed(times_ms, server_ms=2.0), clients=4, slow_url="http://127.0.0.1/slow", slow_answers=5
    )


def variant(label: str, wait_ms: float, others_ms: float, **changes: object) -> Variant:
    return Variant(
        label=label,
        url=f"http://127.0.0.1{label}",
        method="GET",
        probe=probed([wait_ms + extra for extra in range(10)], server_ms=wait_ms),
        bystander=bystander([others_ms + extra for extra in range(10)]),
        idle=probed([3.7] * 10, server_ms=2.0),
        loads=loads(wait_ms, **changes),
        paints=tuple(PaintCost(5, ms, 9.0, 2) for ms in (1.4, 1.7, 2.6)),
    )


def before_and_after() -> Measurement:
    """The same page, with 1.5 s of work in the request and without."""
    slow, quick = variant("/sync", 1_500, 5_000), variant("/background", 2, 4)
    return Measurement(SETUP, (slow, quick))


def film(count: int, size: int, *, seed: int = 0, every_ms: float = 100) -> Filmstrip:
    """Frames of `size` bytes that all differ (not real pictures, apart from their distinctness)."""
    frames = tuple(
        Frame(index * every_ms, bytes([seed, index % 256]) + b"x" * (size - 2))
        for index in range(count)
    )
    return Filmstrip(frames, 300, 188)


def write_photo(path: Path) -> Path:
    path.write_bytes(noise_png(40, 30))
    return path
