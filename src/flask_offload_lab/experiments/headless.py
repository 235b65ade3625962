"""Page loads in the headless browser, for what a page cannot count about itself."""

from __future__ import annotations

import time
from collections.abc import Collection

from flask_offload.measure import Browser, Target

from ..testbed import LabTestbed
from . import Event, Events

PLAIN = {"sync": "/sync", "thread": "/thread", "background": "/background"}
REPORTING = {"progress": "/background?progress", "careless": "/background?careless"}

LONGEST_JOB = 30.0
"""Seconds; a page that follows a longer job is not observed to its end."""


def headless(testbed: LabTestbed, patterns: Collection[str]) -> Events:
    """One load and one traced load of each pattern; the very first load is discarded.

    Raises PlaywrightMissing, BrowserUnavailable.
    """
    yield {"status": "Starting the headless browser…"}
    for pages in (PLAIN, REPORTING):
        wanted = {pattern: path for pattern, path in pages.items() if pattern in patterns}
        if not wanted:
            continue
        with Browser(watch=_job_seconds(testbed) if pages is REPORTING else 0.0) as browser:
            browser.load(Target(testbed.sample_app.origin + "/"))
            for pattern, path in wanted.items():
                yield {"status": f"Loading {path}, twice…"}
                yield _counts(browser, pattern, testbed.sample_app.origin + path)


def _job_seconds(testbed: LabTestbed) -> float:
    """Seconds for which a page that follows a job has to be observed on this machine: twice the
    time of one job without a browser beside it, and a second for the page."""
    [name] = testbed.names("headless", 1)
    journal = testbed.journal()
    began = time.monotonic()
    testbed.sample_app.get(f"/background?member={name}")
    testbed.until(lambda: journal.count("work-end", [name]) > 0, LONGEST_JOB)
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
