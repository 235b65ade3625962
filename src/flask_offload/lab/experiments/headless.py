"""Page loads in the headless browser, for what no page may count about itself."""

from __future__ import annotations

from collections.abc import Collection

from ...evidence.browser import Browser
from ...evidence.target import Target
from ..bench import Bench
from . import Event, Events

PLAIN = {"sync": "/sync", "thread": "/thread", "background": "/background"}
REPORTING = {"progress": "/background?progress", "careless": "/background?careless"}

WATCH = 2.5
"""Seconds for which a page is watched that reports from its job."""


def headless(bench: Bench, patterns: Collection[str]) -> Events:
    """One load and one traced load of each pattern; the first load of all is thrown away.

    Raises PlaywrightMissing, BrowserUnavailable.
    """
    yield {"say": "Starting the headless browser…"}
    for pages, watch in ((PLAIN, 0.0), (REPORTING, WATCH)):
        wanted = {pattern: path for pattern, path in pages.items() if pattern in patterns}
        if not wanted:
            continue
        with Browser(watch=watch) as browser:
            browser.load(Target(bench.club.origin + "/"))
            for pattern, path in wanted.items():
                yield {"say": f"Loading {path}, twice…"}
                yield _counts(browser, pattern, bench.club.origin + path)


def _counts(browser: Browser, pattern: str, url: str) -> Event:
    load = browser.load(Target(url))
    return {
        "pattern": pattern,
        "dom": load.dom_operations,
        "reflows": load.reflows,
        "ttfb": load.ttfb_ms,
        "lcp": load.lcp_ms,
        "paint": browser.paint(Target(url)).paint_ms,
    }
