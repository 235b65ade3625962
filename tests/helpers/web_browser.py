"""A visitor of web_app with a real browser, and what the tests ask it again and again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from support import wait_until
from web_servers import WebSite

JOB_PAGE = re.compile(r"/offload/jobs/[0-9a-f]{44}$")
PATIENCE = 20_000
"""Milliseconds that the browser may take for what it has to do."""

WATCH = """
  window.shifts = 0;
  window.violations = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shifts += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  document.addEventListener("securitypolicyviolation", (event) =>
    window.violations.push(event.violatedDirective + " " + event.blockedURI));
"""


@dataclass
class Visitor:
    """One visitor: a browser context with its cookies, the site, and the server's address."""

    context: BrowserContext
    site: WebSite
    origin: str
    errors: list[str] = field(default_factory=list)
    """What went wrong in scripts, in any tab."""

    def tab(self) -> Page:
        """A new tab, which watches for layout shifts and for what the policy forbids."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(f"{page.url}: {error}"))
        page.add_init_script(WATCH)
        return page

    def send_form(self, page: Page, gate: str, name: str = "Ada") -> str:
        """Fill in the slow form and send it; the address of the waiting page."""
        page.goto(f"{self.origin}/form/{gate}")
        page.locator("input[name=name]").fill(name)
        page.get_by_role("button", name="Make it").click()
        expect(page).to_have_url(JOB_PAGE)
        page.wait_for_load_state()
        return page.url

    def jobs(self) -> int:
        """How many jobs there are, in any status."""
        with self.site.app.app_context():
            return sum(self.site.engine.count().values())


@contextmanager
def visitor(browser: Browser, site: WebSite, origin: str, **options: Any) -> Iterator[Visitor]:
    """A fresh visitor; `options` are those of a browser context. No script may have failed."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    made = Visitor(context, site, origin)
    try:
        yield made
        assert made.errors == []
    finally:
        context.close()
        site.engine.close()


def requests_of(page: Page, path: re.Pattern[str] = JOB_PAGE) -> list[Request]:
    """The requests to the job that the page makes from now on; the list grows."""
    seen: list[Request] = []
    page.on(
        "request",
        lambda request: (
            seen.append(request) if path.search(request.url.partition("?")[0]) else None
        ),
    )
    return seen


def wait_for(page: Page, count: int, requests: list[Request]) -> None:
    """Wait until the page has made so many of them."""

    def enough() -> bool:
        page.evaluate("0")  # lets the events in
        return len(requests) >= count

    wait_until(enough, 20, lambda: f"{count} requests, but there are {len(requests)}")


def events_of(page: Page) -> list[dict[str, Any]]:
    """What the page's <offload-job> has fired since `listen`."""
    found: list[dict[str, Any]] = page.evaluate("window.fired")
    return found


def listen(page: Page) -> None:
    """Note the events that reach the document."""
    page.add_init_script(
        """window.fired = [];
        for (const type of ["offload:progress", "offload:done", "offload:failed"])
          document.addEventListener(type, (event) =>
            window.fired.push({ type, status: event.detail.status, detail: event.detail }));"""
    )
