"""Percentiles, records, and from what the browser says to one page load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from flask_offload.measure.paint import paint_cost
from flask_offload.measure.reading import cumulative_layout_shift, lcp_parts, page_load
from flask_offload.measure.samples import Answer, Measurement, PaintCost, ProbeResult, percentile
from measure_samples import before_and_after, film

NAVIGATION = {
    "startTime": 0,
    "requestStart": 5,
    "responseStart": 12.4,
    "responseEnd": 14,
}


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1), (50, 5), (51, 6), (90, 9), (99, 10), (100, 10)]
)
def test_percentile_is_a_value_that_somebody_waited(percent: float, expected: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected


def test_percentile_of_nothing_is_none() -> None:
    assert percentile([], 50) is None
    assert percentile([None, None], 50) is None
    assert percentile([None, 7.0], 99) == 7.0


def test_a_timeout_counts_as_a_wait_and_an_error_as_none() -> None:
    answers = (
        Answer(0, 1.0, 2.0, 200),
        Answer(0, 900.0, 900.0, error="timed out"),
        Answer(0, error="ConnectionRefusedError: refused"),
    )
    result = ProbeResult("http://127.0.0.1/", "GET", answers, 1.0)
    assert result.slowest_ms == 900.0
    assert result.failures == {"timed out": 1, "ConnectionRefusedError: refused": 1}


def test_a_measurement_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    measured = before_and_after()
    first, last = measured.variants
    measured = replace(measured, variants=(replace(first, film=film(3, 50)), last))
    measured.save(tmp_path / "m.json")
    assert Measurement.load(tmp_path / "m.json") == measured


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"something": "else"}')
    with pytest.raises(msgspec.ValidationError):
        Measurement.load(tmp_path / "m.json")


# --- one page load -----------------------------------------------------------------------------


def test_an_empty_reading_gives_none_everywhere() -> None:
    load = page_load({}, {}, [], url="http://127.0.0.1/", status=None)
    assert (load.ttfb_ms, load.waiting_ms, load.response_ms) == (None, None, None)
    assert (load.fcp_ms, load.lcp_ms, load.lcp_parts, load.reflows) == (None, None, None, None)
    assert (load.server_ms, load.redirects, load.cls) == (None, 0, 0.0)


def test_zero_is_the_browsers_word_for_never() -> None:
    load = page_load({"navigation": NAVIGATION | {"responseEnd": 0}}, {}, [[]], url="", status=200)
    assert load.ttfb_ms == 12.4
    assert load.response_ms is None


def test_the_app_s_time_is_summed_over_redirects() -> None:
    hops = [["total;dur=1500"], ["total;dur=2.5, db;dur=1"]]
    load = page_load({}, {}, hops, url="", status=200)
    assert (load.server_ms, load.redirects) == (1502.5, 1)


def test_the_app_s_time_is_unknown_if_one_redirect_kept_silent() -> None:
    assert page_load({}, {}, [[], ["total;dur=2"]], url="", status=200).server_ms is None


def test_lcp_parts_of_an_image_add_up() -> None:
    parts = lcp_parts(64.0, NAVIGATION, {"start": 29.2, "end": 46.0})
    assert parts is not None
    assert parts.ttfb == 12.4
    assert parts.load_delay == pytest.approx(16.8)
    assert parts.load_time == pytest.approx(16.8)
    assert parts.render_delay == pytest.approx(18.0)


def test_lcp_parts_of_text_have_no_loading() -> None:
    parts = lcp_parts(64.0, NAVIGATION, None)
    assert parts is not None
    assert (parts.load_delay, parts.load_time) == (0, 0)
    assert parts.ttfb + parts.render_delay == 64.0


def test_lcp_parts_are_never_negative() -> None:
    """An early flush: the element was there before the resource's data were complete."""
    parts = lcp_parts(20.0, NAVIGATION, {"start": 2.0, "end": 500.0})
    assert parts is not None
    values = (parts.ttfb, parts.load_delay, parts.load_time, parts.render_delay)
    assert min(values) >= 0
    assert sum(values) == pytest.approx(20.0)


def test_cls_takes_the_largest_window_not_the_sum() -> None:
    shifts = [(100, 0.1), (600, 0.05), (3000, 0.12), (3500, 0.01)]
    assert cumulative_layout_shift(shifts) == pytest.approx(0.15)


def test_cls_window_ends_after_five_seconds() -> None:
    steady = [(time, 0.01) for time in range(0, 10_000, 500)]
    assert cumulative_layout_shift(steady) == pytest.approx(0.1)


def test_no_shift_is_no_cls() -> None:
    assert cumulative_layout_shift([]) == 0.0


# --- paint cost --------------------------------------------------------------------------------


def commit(pid: int, ts: int, *, outermost: bool = True) -> dict[str, object]:
    data = {"data": {"isOutermostMainFrame": outermost}}
    return {"name": "CommitLoad", "pid": pid, "ts": ts, "args": data}


def event(name: str, pid: int, ts: int, dur: int = 0) -> dict[str, object]:
    return {"name": name, "pid": pid, "ts": ts, "dur": dur}


def test_paint_counts_only_the_measured_page() -> None:
    events = [
        event("Paint", 7, 50, 9_000),  # the page before
        commit(7, 100),
        event("PrePaint", 7, 110, 100),
        event("Paint", 7, 120, 1_500),
        event("Paint", 8, 130, 70_000),  # the window of full Chromium, in a process of its own
        event("RasterTask", 7, 140, 2_000),
        commit(9, 150, outermost=False),  # an iframe
        event("Paint", 7, 160, 500),
    ]
    assert paint_cost(events) == PaintCost(paints=2, paint_ms=2.0, raster_ms=2.0, frames=1)


def test_a_trace_without_a_page_costs_nothing() -> None:
    assert paint_cost([event("Paint", 7, 50, 9_000)]) == PaintCost(0, 0.0, 0.0, 0)
