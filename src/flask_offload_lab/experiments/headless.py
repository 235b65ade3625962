"""Page loads in the headless browser, for what no page may count about itself."""

from __future__ import annotations

import time
from collections.abc import Collection

from flask_offload.measure.browser import Browser
from flask_offload.measure.target import Target

from ..testbed import Bench
from . import Event, Events

PLAIN = {"sync": "/sync", "thread": "/thread", "background": "/background"}
REPORTING = {"progress": "/background?progress", "careless": "/background?careless"}

LONGEST_JOB = 30.0
"""Seconds; a page that reports from a longer job is not watched to its end."""


def headless(bench: Bench, patterns: Collection[str]) -> Events:
    """One load and one traced load of each pattern; the first load of all is thrown away.

    Raises PlaywrightMissing, BrowserUnavailable.
    """
    yield {"say": "Starting the headless browser…"}
    for pages in (PLAIN, REPORTING):
        wanted = {pattern: path for pattern, path in pages.items() if pattern in patterns}
        if not wanted:
            continue
        with Browser(watch=_job_seconds(bench) if pages is REPORTING else 0.0) as browser:
            browser.load(Target(bench.club.origin + "/"))
            for pattern, path in wanted.items():
                yield {"say": f"Loading {path}, twice…"}
                yield _counts(browser, pattern, bench.club.origin + path)


def _job_seconds(bench: Bench) -> float:
    """Seconds for which a page has to be watched that reports from a job, as this machine is now:
    twice as long as one job takes without a browser beside it, and a moment for the page."""
    [name] = bench.names("headless", 1)
    watch = bench.watch()
    began = time.monotonic()
    bench.club.get(f"/background?member={name}")
    bench.until(lambda: watch.count("work-end", [name]) > 0, LONGEST_JOB)
    return (time.monotonic() - began) * 2 + 1


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
