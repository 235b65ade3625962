"""Fixtures of the tests with a real browser: Chromium, a site behind gunicorn, and a visitor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from flask_offload.measure import chromium
from measure_support import require_chromium
from web_browser import PATIENCE, Visitor, visitor
from web_servers import WebSite


@pytest.fixture(scope="module", name="browser")
def browser_fixture(processes: None) -> Iterator[Browser]:
    """The system's Chromium, which reaches nothing but this machine."""
    require_chromium()
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=chromium.find().path,
            args=[*chromium.arguments(()), "--in-process-gpu"],
            chromium_sandbox=chromium.sandboxed(),
        )
        expect.set_options(timeout=PATIENCE)
        page = made.new_page()  # starts the helper processes
        page.goto("data:text/html,ready")
        page.screenshot()
        page.close()
        yield made
        made.close()


@pytest.fixture(scope="module", name="origin")
def origin_fixture(processes: None, site: WebSite) -> Iterator[str]:
    with site.gunicorn("--threads", "4") as made:
        yield made


@pytest.fixture(name="ada")
def ada_fixture(browser: Browser, site: WebSite, origin: str) -> Iterator[Visitor]:
    with visitor(browser, site, origin) as made:
        yield made
