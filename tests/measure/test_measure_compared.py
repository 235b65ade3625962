"""The same pages, measured by web-vitals and by Lighthouse too.

Each has its own loads, so times are compared by what they say of two pages, not one by one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
from playwright.sync_api import sync_playwright

from flask_offload.measure import Options, chromium, measure
from measure_support import gunicorn, require_chromium
from npm import node_modules

PACKAGES = ("web-vitals@5.1.0", "lighthouse@12.8.2")
PAGES = ("sync", "banner")
BLOCKED_MS = 600
AUDITS = {
    "ttfb": "server-response-time",
    "fcp": "first-contentful-paint",
    "lcp": "largest-contentful-paint",
    "cls": "cumulative-layout-shift",
}

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]


class Vitals(NamedTuple):
    """Medians of one page; times in ms."""

    ttfb: float
    fcp: float
    lcp: float
    cls: float


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    require_chromium()
    with gunicorn(workers=2, block_s=BLOCKED_MS / 1000) as origin:
        yield origin


@pytest.fixture(scope="module")
def own(server: str) -> dict[str, Vitals]:
    options = Options(runs=3, traced=1, probes=1, browser=True, film=False)
    measured = measure([f"{server}/{page}" for page in PAGES], options)
    return {
        page: Vitals(
            *(median(getattr(load, name) for load in variant.loads) for name in _FIELDS),
        )
        for page, variant in zip(PAGES, measured.variants, strict=True)
    }


_FIELDS = ("ttfb_ms", "fcp_ms", "lcp_ms", "cls")


def by_web_vitals(origin: str, modules: Path) -> dict[str, Vitals]:
    """What its functions report when the page is left."""
    script = (modules / "web-vitals" / "dist" / "web-vitals.iife.js").read_text()
    script += "; window.seen = {}; for (const name of ['TTFB', 'FCP', 'LCP', 'CLS'])"
    script += " webVitals['on' + name]((metric) => { seen[name.toLowerCase()] = metric.value; },"
    script += " { reportAllChanges: true });"
    found: dict[str, list[Vitals]] = {page: [] for page in PAGES}
    with sync_playwright() as playwright:
        path = str(chromium.find().path)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(3):
            for page in PAGES:
                tab = browser.new_page(viewport={"width": 1280, "height": 800})
                tab.add_init_script(script)
                tab.goto(f"{origin}/{page}")
                tab.wait_for_function("'lcp' in seen && performance.now() > 1500", polling=100)
                found[page].append(Vitals(**tab.evaluate("seen")))
                tab.close()
        browser.close()
    return {page: _medians(each) for page, each in found.items()}


def by_lighthouse(origin: str, modules: Path) -> dict[str, Vitals]:
    """One run for each page: it takes seconds."""
    return {page: _audits(f"{origin}/{page}", modules) for page in PAGES}


def _audits(url: str, modules: Path) -> Vitals:
    command = ["node", str(modules / "lighthouse" / "cli" / "index.js"), url, "--output=json"]
    command += ["--quiet", "--only-categories=performance", "--preset=desktop"]
    command += ["--screenEmulation.width=1280", "--screenEmulation.height=800"]
    command += ["--throttling-method=provided", "--chrome-flags=--no-sandbox --headless"]
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "CHROME_PATH": str(chromium.find().path), "HOME": "/tmp"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    audits = json.loads(done.stdout)["audits"]
    return Vitals(**{name: audits[audit]["numericValue"] for name, audit in AUDITS.items()})


def _medians(values: list[Vitals]) -> Vitals:
    return Vitals(*(median(column) for column in zip(*values, strict=True)))


Tool = Callable[[str, Path], dict[str, Vitals]]


@pytest.mark.parametrize("tool", [by_web_vitals, by_lighthouse])
def test_an_independent_tool_agrees(server: str, own: dict[str, Vitals], tool: Tool) -> None:
    theirs = tool(server, node_modules(*PACKAGES))
    print(f"\n{tool}")
    for page in PAGES:
        print(page, "own", own[page], "theirs", theirs[page])
    for name in ("ttfb", "fcp", "lcp"):
        here, there = (
            getattr(each["sync"], name) - getattr(each["banner"], name) for each in (own, theirs)
        )
        assert here == pytest.approx(there, rel=0.25), name
    for page in PAGES:
        assert own[page].cls == pytest.approx(theirs[page].cls, abs=0.005), page
    assert own["banner"].cls > 0.1
