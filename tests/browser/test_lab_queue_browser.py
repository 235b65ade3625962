"""The mode Queue in a real browser, and axe-core on all pages of the lab."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from benchmarks.erlang import Load
from playwright.sync_api import Browser, Page, expect

from browser_fixtures import browser_fixture  # noqa: F401 (fixtures)
from flask_offload_lab.site.modes import MODES
from lab_browser import LONG, PHONE, number, opened
from lab_support import RunningLab, lab_running

EXTENSIONS = Path(__file__).parents[2] / "docs" / "_ext"
PATHS = ["/", *(mode.path for mode in MODES)]


@pytest.fixture(scope="module")
def lab(processes: None) -> Iterator[RunningLab]:
    with lab_running() as found:
        yield found


def set_load(page: Page, **values: int) -> None:
    for name, value in values.items():
        page.locator(f"#{name}").fill(str(value))


def test_the_formula_follows_the_sliders(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/queue") as page:
        for rate, work, threads, workers in [(16, 200, 4, 1), (39, 600, 8, 3), (7, 280, 1, 2)]:
            set_load(page, rate=rate, work=work, threads=threads, workers=workers)
            expected = Load(rate, work / 1000, threads * workers).mean_wait * 1000
            shown = number(page.locator("#formula").text_content())
            assert shown == pytest.approx(expected, rel=0.02, abs=0.6)
        set_load(page, rate=40, work=600, threads=1, workers=1)
        expect(page.locator("#formula")).to_have_text("∞")
        expect(page.locator("#formula-note")).to_contain_text("2400% of full load")


def test_a_load_is_measured_beside_its_formula(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/queue") as page:
        set_load(page, rate=20, work=40, threads=2, workers=1)
        page.locator("[data-guess=queue-wait] input").fill("1")
        page.locator("#run").click()
        expect(page.locator("#queue-status")).to_contain_text("Measured.", timeout=LONG)
        expect(page.locator("#measured-note")).to_contain_text("each of 240 jobs")
        assert number(page.locator("#measured").text_content()) < 1_000
        expect(page.locator("[data-guess=queue-wait] output")).to_contain_text("You guessed 1.0")
        expect(page.locator("#curve .dot-a")).to_have_count(1)
        set_load(page, rate=10)  # the figure belongs to another load now; its mark is still right
        expect(page.locator("#measured")).to_have_text("\N{EN DASH}")
        expect(page.locator("#curve .dot-a")).to_have_count(1)
        set_load(page, threads=3)
        expect(page.locator("#curve .dot-a")).to_have_count(0)
        page.locator("#run").click()
        expect(page.locator("#run")).to_have_text("Stop")
        page.locator("#run").click()
        expect(page.locator("#queue-status")).to_have_text("Stopped.")


def test_retries_are_drawn_with_and_without_jitter(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/queue") as page:
        page.locator("[data-guess=queue-storm] input").fill("40")
        page.locator("#storm-run").click()
        expect(page.locator("#storm-status")).to_contain_text("The last job", timeout=2 * LONG)
        for jitter in ("off", "on"):
            assert number(page.locator(f'[data-took="{jitter}"]').text_content()) > 1_200
            calls = page.locator(f'[data-calls="{jitter}"]').text_content() or ""
            assert int(re.findall(r"(\d+) calls", calls)[0]) >= 80  # each was refused at first
        expect(page.locator("[data-guess=queue-storm] output")).to_contain_text("40 calls; it was")
        for jitter in ("off", "on"):
            assert page.locator(f'[data-storm="{jitter}"] .fill-wait').count() > 1
            assert page.locator(f'[data-storm="{jitter}"] .fill-good').count() > 1


def test_a_poison_job_ends_and_costs_no_other(browser: Browser, lab: RunningLab) -> None:
    with opened(browser, lab, "/queue") as page:
        page.locator("[data-guess=queue-poison] input").fill("3")
        page.locator("#poison-run").click()
        expect(page.locator("#poison-status")).to_contain_text(
            "It was started 3 times", timeout=LONG
        )
        expect(page.locator("#poison-end")).to_contain_text("FAILED: the process that ran the job")
        expect(page.locator("#others-done")).to_have_text("20 of 20")
        expect(page.locator("[data-guess=queue-poison] output")).to_contain_text("right")


@pytest.mark.parametrize(
    ("scheme", "paths"), [("light", PATHS), ("dark", ["/", "/measure", "/queue"])]
)
def test_axe_finds_nothing(
    browser: Browser, lab: RunningLab, scheme: Literal["light", "dark"], paths: list[str]
) -> None:
    page = browser.new_page(color_scheme=scheme)
    for path in paths:
        page.goto(lab.origin + path)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
    page.close()


def test_every_page_can_be_read_without_javascript(browser: Browser, lab: RunningLab) -> None:
    for path in PATHS:
        with opened(browser, lab, path, PHONE, javascript=False) as page:
            notice = page.locator("noscript p")
            expect(notice).to_have_count(0 if path in ("/", "/recall") else 1)
            expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_the_site_plays_a_recording(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    sys.path.insert(0, str(EXTENSIONS))
    try:
        build = importlib.import_module("recorded_lab").build
    finally:
        sys.path.remove(str(EXTENSIONS))
    build(folder)
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        site = RunningLab(f"http://127.0.0.1:{server.server_port}", "")
        try:
            with opened(browser, site, "/why.html") as page:
                expect(page.locator(".recorded")).to_contain_text("Recorded on 20")
                page.get_by_role("button", name="Run both, now").click()
                expect(page.locator("#status")).to_contain_text(
                    "The bystander waited", timeout=LONG
                )
                page.get_by_role("link", name="5 Queue").click()
                set_load(page, rate=9)
                page.locator("#run").click()
                expect(page.locator("#queue-status")).to_contain_text("three loads were recorded")
        finally:
            server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
