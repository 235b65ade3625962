"""The dashboard in a real Chromium: found, repaired, looked at by axe-core, by keyboard, narrow."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from browser_fixtures import browser_fixture  # noqa: F401 (fixture)
from dashboard_site import PREFIX, Shop
from flask_offload import JobStatus
from flask_offload.dashboard.schedules import known_schedules
from flask_offload.engines.base import JobQuery
from flask_offload.engines.store import Retention, StoreOptions
from flask_offload.jobs.attempt import Ending, Outcome, Report
from flask_offload.jobs.job import Error
from flask_offload.jobs.log_line import StoredLine, stored_log
from flask_offload.jobs.new_job import THREADS
from support import APP_PATH, free_port, listening, running
from web_browser import PATIENCE, WATCH

JOBS, FAILED = 20_000, 40
BATCH = 1000
ERROR = Error("SMTPServerDisconnected", "Connection unexpectedly closed", "Traceback …\n  mail.py")
PAGES = ("/", "/jobs", "/failures", "/queues", "/schedules", "/workers", "/routes")
A_MINUTE = 60.0
LEVELS = ("ERROR", "INFO", "PRINT")


@dataclass
class Site:
    """The shop in this process, and where a server serves it. odd: a job with all that a page of a
    job can show; running: one that runs."""

    shop: Shop
    origin: str
    odd: str
    running: str

    def count(self, status: JobStatus) -> int:
        """How many jobs have this status."""
        try:
            return self.shop.engine.count()[status]
        finally:
            self.shop.engine.close()

    def failed_id(self) -> str:
        """One that failed."""
        (record,) = self.shop.engine.page(JobQuery(error=ERROR.type, limit=1), JOBS).jobs
        return record.id


OPEN = "for (const each of document.querySelectorAll('details')) each.open = true"
BUTTONS_OUTSIDE = """[...document.querySelectorAll('button, a.press')]
    .filter(each => each.getBoundingClientRect().right > 320).map(each => each.textContent)"""
LONG = "https://shop.example/" + "unbroken" * 40


@contextmanager
def odd_jobs(shop: Shop) -> Iterator[tuple[str, str]]:
    """A cancelled job with two attempts, tracebacks, long texts and a log, and one that runs
    meanwhile; with them a paused queue and a disabled schedule."""
    options = StoreOptions(
        kind="command", retention=Retention(1e6, 1e6, 10**6), places=4, capacity=4
    )
    store = shop.engine.open_store(options)
    error = Error("PaymentRefused", LONG, f"Traceback …\n  {LONG}\n{LONG}")
    lines = [StoredLine(time.time(), "WARNING", "shop.mail", f"{n}: {LONG}") for n in range(30)]
    lines[3:6] = [
        each._replace(level=level) for each, level in zip(lines[3:6], LEVELS, strict=True)
    ]
    log = stored_log(1, lines)
    try:
        with shop.app.app_context():
            odd = shop.pay.using(owner=f"user:{LONG}", priority=3).enqueue(1, "tok", note=LONG).id
            for ending in (Ending.RETRY, Ending.CANCELLED):
                (claim,) = store.exchange([], {THREADS: 1}).claims
                report = Report(claim.seq, claim.attempt, 3, 7, LONG, f'["{LONG}"]', log)
                store.report([report])
                now = time.time()
                ended = Outcome(claim.seq, claim.attempt, ending, now, now, error=error, keep=1e6)
                store.exchange([ended], {})
            running = shop.pay.enqueue(2, note=LONG).id
            (claim,) = store.exchange([], {THREADS: 1}).claims
            store.report([Report(claim.seq, claim.attempt, 3, 7, "sending", None, log)])
            shop.engine.pause("paused")
            (schedule,) = known_schedules(shop.offload.state_of(shop.app))
            shop.engine.disable_schedule(schedule)
        yield odd, running
    finally:
        store.close()


def fill(shop: Shop) -> None:
    """20,000 jobs that have run; every five hundredth failed."""
    engine = shop.engine
    retention = Retention(86_400.0, 86_400.0, 10**6)
    options = StoreOptions(kind="test", retention=retention, places=2 * BATCH, capacity=4)
    store = engine.open_store(options)
    for first in range(0, JOBS, BATCH):
        with shop.app.app_context():
            calls = [shop.pay.call(n, "tok", note=f"n{n}") for n in range(first, first + BATCH)]
            shop.offload.enqueue_many(calls)
        now, outcomes = time.time(), list[Outcome]()
        for claim in store.exchange([], {THREADS: BATCH}).claims:
            is_bad = (first + len(outcomes)) % (JOBS // FAILED) == 0
            ending = Ending.FAILED if is_bad else Ending.SUCCESSFUL
            error = ERROR if is_bad else None
            outcomes.append(
                Outcome(claim.seq, claim.attempt, ending, now - 0.1, now, error=error, keep=1e6)
            )
        store.exchange(outcomes, {})
    store.close()


@pytest.fixture(scope="module", name="site")
def site_fixture(
    processes: None,
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("shop")
    made = Shop(folder)
    fill(made)
    made.engine.close()
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "dashboard_app", "run", "--port", str(port)]
    helpers = str(Path(__file__).parents[1] / "helpers")
    environ = {
        **os.environ,
        "SHOP_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join([APP_PATH, helpers]),
    }
    with (
        odd_jobs(made) as (odd, runs),
        running(command, env=environ, cwd=folder, ready=lambda _: listening(port)),
    ):
        yield Site(made, f"http://127.0.0.1:{port}", odd, runs)
    made.engine.close()


@contextmanager
def visit(browser: Browser, site: Site, who: str, **options: object) -> Iterator[Page]:
    """A page of a visitor with this access; no script may fail, and nothing break the policy."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    context.add_cookies([{"name": "who", "value": who, "url": site.origin}])
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(WATCH)
    try:
        yield page
        assert errors == []
        if options.get("java_script_enabled", True):
            assert page.evaluate("window.violations ?? []") == []
    finally:
        context.close()
        site.shop.engine.close()


def test_read_only_access_has_no_buttons_and_cannot_act(browser: Browser, site: Site) -> None:
    with visit(browser, site, "read") as page:
        for path in (*PAGES, f"/jobs/{site.failed_id()}", "/jobs?status=FAILED"):
            page.goto(site.origin + PREFIX + path)
            expect(page.get_by_text("read only")).to_be_visible()
            assert page.locator("form[method=post]").count() == 0
        status = page.evaluate(
            """async (path) => (await fetch(path, {method: "POST", body: new URLSearchParams(
            {action: "retry", status: "FAILED"})})).status""",
            f"{PREFIX}/bulk",
        )
        assert status == 403
    assert site.count(JobStatus.FAILED) == FAILED


def test_without_access_nothing_is_there(browser: Browser, site: Site) -> None:
    with visit(browser, site, "a stranger") as page:
        for path in PAGES:
            response = page.goto(site.origin + PREFIX + path)
            assert response is not None
            assert response.status == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, site: Site, scheme: str) -> None:
    with visit(browser, site, "full", color_scheme=scheme) as page:
        job = f"/jobs/{site.failed_id()}"
        bulk = "/bulk?action=retry&status=FAILED"
        jobs = (job, f"/jobs/{site.odd}", f"/jobs/{site.running}", "/jobs/unknown")
        for path in (*PAGES, *jobs, "/jobs?status=FAILED", "/jobs?task=none", bulk):
            page.goto(site.origin + PREFIX + path)
            page.evaluate(OPEN)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


def test_nothing_is_wider_than_a_narrow_screen(browser: Browser, site: Site) -> None:
    with visit(browser, site, "full", viewport={"width": 320, "height": 640}) as page:
        jobs = (f"/jobs/{each}" for each in (site.failed_id(), site.odd, site.running))
        for path in (*PAGES, *jobs, "/bulk?action=retry&status=FAILED"):
            response = page.goto(site.origin + PREFIX + path)
            assert response is not None
            assert len(response.body()) < 100_000
            page.evaluate(OPEN)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
            hidden = page.evaluate(BUTTONS_OUTSIDE)
            assert hidden == [], f"{path}: these buttons are not seen without scrolling: {hidden}"


def test_a_page_renews_itself_and_keeps_the_place(browser: Browser, site: Site) -> None:
    with visit(browser, site, "full") as page:
        page.clock.install()
        page.goto(f"{site.origin}{PREFIX}/queues")
        pause = page.get_by_role("button", name="Pause")
        ready = page.get_by_role("row").filter(has=pause).get_by_role("cell").nth(1)
        before = int(ready.text_content() or "")
        pause.focus()
        page.evaluate("window.mark = 'the same document'")
        with site.shop.app.app_context():
            site.shop.pay.enqueue(1)
        page.clock.run_for(4000)
        expect(ready).to_have_text(str(before + 1))
        assert page.evaluate("document.activeElement.textContent") == "Pause"
        assert page.evaluate("window.mark") == "the same document"
        page.get_by_role("button", name="Live").click()
        expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")


def test_forty_failed_jobs_among_many_are_found_and_run_again(browser: Browser, site: Site) -> None:
    """With the keyboard alone, without JavaScript, and in less than a minute."""
    before = site.count(JobStatus.READY)
    with visit(browser, site, "full", java_script_enabled=False) as page:
        began = time.monotonic()
        page.goto(f"{site.origin}{PREFIX}/")
        for name in ("Failures", "SMTPServerDisconnected"):
            page.get_by_role("link", name=name, exact=True).focus()
            page.keyboard.press("Enter")
        expect(page.get_by_role("row")).to_have_count(26)
        page.get_by_role("link", name=re.compile("run again")).focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("40 jobs", exact=True)).to_be_visible()
        page.get_by_role("button", name="Run again 40 jobs").focus()
        page.keyboard.press("Enter")
        while page.get_by_role("button", name="Continue").count():
            page.keyboard.press("Enter")
            page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("40 jobs are back in their queues.")).to_be_visible()
        assert time.monotonic() - began < A_MINUTE
    assert site.count(JobStatus.FAILED) == 0
    assert site.count(JobStatus.READY) == before + FAILED
