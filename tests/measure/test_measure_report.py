"""The report: one file that needs nothing else, and says everything without colours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flask_offload.measure import chromium
from flask_offload.measure.filmstrip import contact_sheet, jpeg_size, strip_of
from flask_offload.measure.report import render_html, to_json
from flask_offload.measure.samples import Answer, Filmstrip, Frame, Measurement, Variant
from flask_offload.measure.text import render_text
from measure_samples import SETUP, before_and_after, film, probed, variant
from measure_support import require_chromium

EMPTY = {"fcp_ms": None, "lcp_ms": None, "lcp_parts": None, "lcp_element": None}


def filmed(size: int = 10_000, frames: int = 3) -> Measurement:
    measured = before_and_after()
    slow, quick = measured.variants
    strips = film(frames, size), film(frames, size, seed=1)
    both = replace(slow, film=strips[0]), replace(quick, film=strips[1])
    return replace(measured, variants=both)


def with_problems() -> Measurement:
    """Whatever can be missing is missing."""
    blank = Variant("/nothing", "http://127.0.0.1/nothing", "GET", probed([]))
    failing = replace(
        variant("/failing", 2, 4, status=500, visibility="hidden", settled=False, **EMPTY),
        probe=replace(probed([1.0]), answers=(Answer(0, error="refused"),)),
    )
    setup = replace(SETUP, browser=None, browser_note="not wanted", load_average=None)
    return Measurement(setup, (blank, failing))


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# --- HTML --------------------------------------------------------------------------------------


def test_the_file_refers_to_nothing_outside() -> None:
    html = render_html(filmed())
    for tag, attributes in Tags(html).found:
        assert tag not in ("script", "link", "iframe", "object"), tag
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href") and tag != "a":
                assert (value or "").startswith(("data:image/jpeg;base64,", "#")), (tag, value)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_every_different_frame_is_there_once() -> None:
    html = render_html(filmed(frames=3))
    assert html.count("data:image/jpeg;base64,") == 6
    assert html.count("<use ") > 6


def test_a_busy_film_still_fits() -> None:
    """Six seconds of pictures that all differ, 10 kB each."""
    measured = filmed(size=10_000, frames=60)
    assert len(render_html(measured).encode()) < 300_000


def test_labels_and_urls_can_not_break_out() -> None:
    slow, quick = before_and_after().variants
    bad = '"><script>alert(1)</script>'
    measured = Measurement(
        SETUP,
        (replace(slow, label=bad, url=f"http://127.0.0.1/{bad}"), replace(quick, label="b")),
    )
    html = render_html(measured)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 5


@pytest.mark.parametrize("measured", [before_and_after(), with_problems()])
def test_every_measured_number_has_a_unit(measured: Measurement) -> None:
    html = render_html(measured)
    texts = re.findall(r'<(?:td|span)[^>]*class="number[^"]*"[^>]*>([^<]*)<', html)
    numbers = [text for text in texts if re.search(r"\d", text)]
    units = r"(ms|DOM operations?|reflows?|style recalculations?)$"
    cls = r"^[✓!✗ ]*0\.\d{3}$"  # a score, as its row says
    for text in numbers:
        assert re.search(units, text.replace("\xa0", " ")) or re.match(cls, text), text
    assert len(numbers) > 20 or measured.setup.browser is None


def test_colour_is_never_the_only_sign() -> None:
    html = render_html(before_and_after())
    rated = re.findall(r'class="number (good|fair|poor)">(.)', html)
    assert {("good", "✓"), ("fair", "!"), ("poor", "✗")} == set(rated)
    assert "← bottleneck" in html
    for kind in ("network", "body", "fetch", "browser"):
        assert re.search(rf'id="p-{kind}".*class="grain"', html), "stages have textures"


def test_light_dark_and_print_are_provided_for() -> None:
    html = render_html(before_and_after())
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert "color-scheme: light dark" in html


@pytest.mark.parametrize("render", [render_html, render_text])
def test_the_largest_element_is_named(render: Callable[[Measurement], str]) -> None:
    """LCP of a page may be the time of its picture, that of another page the time of a headline."""
    slow, quick = variant("/sync", 2, 4), variant("/quick", 2, 4, lcp_element="h1.nothing")
    blank = variant("/blank", 2, 4, **EMPTY)
    text = render(Measurement(SETUP, (slow, quick, blank)))
    assert "h1.nothing" in text
    if render is render_text:
        assert "Largest element, whose time is LCP: img in /sync, h1.nothing in /quick" in text
        assert ", none in /blank" in text
    else:
        assert "nothing on the page counts for LCP" in text


def test_limits_name_their_source() -> None:
    html = render_html(before_and_after())
    assert "web-vitals: LCP" in html
    assert "Lighthouse: server response time" in html
    assert "75th percentile" in html


def test_problems_stand_on_top() -> None:
    html = render_html(with_problems())
    assert html.index("Before you trust these figures") < html.index("<h2>Verdict")
    assert "ended with status 500" in html
    assert "Before you trust" not in render_html(before_and_after())


def test_numbers_and_units_do_not_part() -> None:
    html = render_html(before_and_after())
    assert "1,506\N{NO-BREAK SPACE}ms" in html
    assert "1,506 ms" not in html.partition("<body>")[2]


@pytest.mark.processes
def test_the_browser_shows_it_without_a_request_or_a_complaint(tmp_path: Path) -> None:
    require_chromium()
    from playwright.sync_api import sync_playwright

    page_file = tmp_path / "report.html"
    page_file.write_text(render_html(filmed()), "utf-8")
    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.find().path, chromium_sandbox=chromium.sandboxed()
        )
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(page_file.as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert complaints == []
    assert width == 360  # nothing sticks out of a phone's screen
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 60


# --- text and JSON -----------------------------------------------------------------------------


def test_text_has_the_same_figures() -> None:
    text = render_text(before_and_after())
    assert text.startswith("/background answers after 8.0 ms instead of 1,506 ms.")
    assert re.search(r"LCP +✓ 1,562 ms \[1,560 … 1,564\] +✓ 64 ms", text)
    assert "bottleneck: the app" in text
    assert "\xa0" not in text


def test_text_says_whom_the_limits_are_meant_for() -> None:
    assert "75th percentile of real visitors" in render_text(before_and_after())


def test_text_survives_missing_figures() -> None:
    text = render_text(with_problems())
    assert "no browser (not wanted)" in text
    assert re.search(r"^/nothing +(not measured +){2}none +(not measured +){3}", text, re.M)


def test_text_without_a_browser_does_not_tell_what_only_a_browser_sees() -> None:
    """Rather than a table full of "none"; its last line says why."""
    measured = before_and_after()
    bare = tuple(replace(each, loads=(), paints=()) for each in measured.variants)
    setup = replace(SETUP, browser=None, browser_note="not wanted")
    text = render_text(replace(measured, setup=setup, variants=bare))
    assert re.search(r"^Pattern +TTFB +Bystander +Verdict$", text, re.M)
    assert re.search(r"^/background +5.5 ms +7.5 ms +✓ Good$", text, re.M)
    for word in ("none", "DOM operations", "Reflows", "Paint", "Largest element"):
        assert word not in text
    assert text.splitlines()[-1].endswith("no browser (not wanted)")


def test_json_has_figures_findings_and_samples_but_no_pictures() -> None:
    document = json.loads(to_json(filmed()))
    figures = document["variants"][0]["figures"]
    assert figures["ttfb"] == {
        "value": 1506.0,
        "unit": "ms",
        "low": 1504.0,
        "high": 1508.0,
        "n": 5,
        "rating": "needs improvement",
    }
    assert document["variants"][1]["verdict"]["rating"] == "good"
    assert document["variants"][0]["pipeline"]["bottleneck"] == "server"
    assert document["findings"][0]["source"] == "web-vitals: TTFB"
    assert document["samples"]["variants"][0]["film"] is None
    assert len(document["samples"]["variants"][0]["loads"]) == 5


def test_json_survives_missing_figures() -> None:
    document = json.loads(to_json(with_problems()))
    assert document["variants"][0]["figures"]["ttfb"] is None


# --- filmstrips --------------------------------------------------------------------------------


def test_frames_are_carried_forward_to_steps() -> None:
    slow = Filmstrip((Frame(0, b"form"), Frame(230, b"blank"), Frame(250, b"done")), 300, 188)
    quick = Filmstrip((Frame(0, b"form"), Frame(20, b"done")), 300, 188)
    sheet = contact_sheet([slow, quick])
    assert sheet.pictures == (b"form", b"done")
    shown = [[sheet.pictures[cell.picture] for cell in cells] for cells in sheet.strips]
    assert shown == [[b"form"] * 3 + [b"done"] * 2, [b"form"] + [b"done"] * 4]
    assert [cell.changed for cell in sheet.strips[0]] == [False, False, False, True, False]


def test_steps_widen_until_the_pictures_fit() -> None:
    strip = film(20, 1_000)
    assert contact_sheet([strip]).step_ms == 100
    sheet = contact_sheet([strip], budget=6_000)
    assert sheet.step_ms == 400
    assert sum(map(len, sheet.pictures)) <= 6_000


def test_no_strips_make_an_empty_sheet() -> None:
    assert contact_sheet([]).pictures == ()


def test_a_strip_begins_with_the_last_picture_before_the_navigation() -> None:
    jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08\x00\xbc\x01\x2c" + b"\0" * 8
    strip = strip_of([(90.0, jpeg), (-40.0, b"form, old"), (-20.0, b"form")])
    assert strip is not None
    assert [(frame.at_ms, frame.image) for frame in strip.frames] == [(0.0, b"form"), (90.0, jpeg)]
    assert (strip.width, strip.height) == (300, 188)
    assert strip_of([]) is None


def test_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JPEG"):
        jpeg_size(b"\x89PNG" * 10)
