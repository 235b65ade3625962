"""The waiting page in a real Chromium, with and without JavaScript, on good days and bad ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from browser_fixtures import ada_fixture, browser_fixture, origin_fixture  # noqa: F401 (fixtures)
from support import free_port, http_get, http_post
from web_browser import Visitor, requests_of, visitor
from web_fixtures import site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite

FAILED = "That didn\N{RIGHT SINGLE QUOTATION MARK}t work"


@pytest.fixture
def plain(browser: Browser, site: WebSite, origin: str) -> Iterator[Visitor]:
    """Ada with JavaScript switched off."""
    with visitor(browser, site, origin, java_script_enabled=False) as made:
        yield made


def open_all(site: WebSite, gate: str) -> None:
    site.open(*(f"{gate}-{number}" for number in range(3)))


def expect_result(page: Page, name: str = "Ada") -> None:
    expect(page.get_by_role("heading", name=f"Hello {name}")).to_be_visible()
    assert page.url.endswith("/result")


# --- the good days -----------------------------------------------------------------------------


def test_a_slow_form_leads_to_its_result(ada: Visitor) -> None:
    page = ada.tab()
    url = ada.send_form(page, "js")
    page.evaluate("window.mark = 'the same document'")
    bar = page.get_by_role("progressbar", name="Progress")
    expect(page.get_by_role("status")).to_have_text("step 1 of 3")
    ada.site.open("js-0")
    expect(page.get_by_role("status")).to_have_text("step 2 of 3")
    assert float(bar.get_attribute("value") or 0) == pytest.approx(1 / 3)
    expect(page).to_have_title("33% · Working on it")
    ada.site.open("js-1")
    expect(page.get_by_role("status")).to_have_text("step 3 of 3")
    assert page.evaluate("window.mark") == "the same document"
    assert page.evaluate("window.shifts") == 0
    assert page.evaluate("window.violations") == []
    ada.site.open("js-2")
    expect_result(page)
    assert page.url == f"{url}/result"


def test_and_without_javascript_too(plain: Visitor) -> None:
    page = plain.tab()
    plain.send_form(page, "nojs")
    plain.site.open("nojs-0")
    expect(page.get_by_text("step 2 of 3")).to_be_visible()
    assert page.locator("progress").get_attribute("value") is not None
    plain.site.open("nojs-1", "nojs-2")
    expect_result(page)


def test_the_script_stops_the_reloading(ada: Visitor) -> None:
    """Else the page would be loaded again and again, by the header that serves the others."""
    page = ada.tab()
    asked = requests_of(page)
    url = ada.send_form(page, "still")
    refresh = http_get(url, headers={"Accept": "text/html"}).headers["Refresh"]
    with pytest.raises(PlaywrightTimeout):
        page.wait_for_event("load", timeout=1700 * int(refresh))
    assert [request.resource_type for request in asked[:1]] == ["document"]
    assert {request.resource_type for request in asked[1:]} == {"fetch"}
    open_all(ada.site, "still")


def test_reload_and_back_make_no_second_job(ada: Visitor) -> None:
    page = ada.tab()
    before = ada.jobs()
    url = ada.send_form(page, "reload")
    page.reload()
    page.reload()
    assert page.url == url
    open_all(ada.site, "reload")
    expect_result(page)
    page.reload()
    expect_result(page)
    page.go_back()
    expect(page).to_have_url(re.compile("/form/reload$"))
    page.go_forward()
    expect_result(page)
    assert ada.jobs() == before + 1


def test_a_form_with_mistakes_comes_back_and_can_be_sent_again(ada: Visitor) -> None:
    """It has a CSRF token and no address of its own, and it is shown by the job's result."""
    page = ada.tab()
    page.goto(f"{ada.origin}/checked")
    page.locator("form").evaluate("form => form.noValidate = true")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("This field is required")).to_be_visible()
    assert page.url.endswith("/result")
    page.locator("input[name=name]").fill("Ada")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("valid Ada")).to_be_visible()


def test_two_tabs_both_arrive(ada: Visitor) -> None:
    one, two = ada.tab(), ada.tab()
    url = ada.send_form(one, "tabs")
    two.goto(url)
    expect(two.get_by_role("status")).to_have_text("step 1 of 3")
    open_all(ada.site, "tabs")
    expect_result(one)
    expect_result(two)


# --- cancel and failure ------------------------------------------------------------------------


@pytest.mark.parametrize("javascript", [True, False])
def test_the_cancel_button_cancels(
    browser: Browser, site: WebSite, origin: str, javascript: bool
) -> None:
    with visitor(browser, site, origin, java_script_enabled=javascript) as ada:
        page = ada.tab()
        ada.send_form(page, f"cancel-{javascript}")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
        expect(page.get_by_role("button", name="Run it again")).to_be_visible()
        open_all(site, f"cancel-{javascript}")
        page.get_by_role("button", name="Run it again").click()
        expect_result(page)


def test_a_failure_is_readable_and_can_be_tried_again(ada: Visitor) -> None:
    page = ada.tab()
    url = ada.send_form(page, "fail", name="Mallory")
    open_all(ada.site, "fail")
    for _ in range(2):
        expect(page.get_by_role("heading", name=FAILED)).to_be_visible()
        expect(page.get_by_text("Something went wrong while it ran.")).to_be_visible()
        assert "secret sauce" not in page.content()
        attempts = len(ada.site.job(url.rpartition("/")[2]).attempts)
        page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name=FAILED)).to_be_visible()
    assert len(ada.site.job(url.rpartition("/")[2]).attempts) == attempts + 1


# --- the bad days ------------------------------------------------------------------------------


def test_a_failure_has_a_reference_and_a_way_back_to_the_form(ada: Visitor) -> None:
    page = ada.tab()
    url = ada.send_form(page, "back", "Mallory")
    form = f"{url.partition('/offload')[0]}/form/back"
    open_all(ada.site, "back")
    expect(page.get_by_role("heading", name=FAILED)).to_be_visible()
    expect(page.get_by_text(f"Reference: {url.rpartition('/')[2][:12]}")).to_be_visible()
    page.get_by_role("button", name="Back").click()
    expect(page).to_have_url(form)
    assert page.evaluate("window.violations") == []


def test_the_page_survives_a_restart_of_the_server(browser: Browser, site: WebSite) -> None:
    port = free_port()
    with site.gunicorn("--threads", "4", port=port) as origin:
        context = browser.new_context()
        ada = Visitor(context, site, origin)
        page = ada.tab()
        ada.send_form(page, "restart")
        page.evaluate("window.mark = 'the same document'")
    expect(page.get_by_text("No connection. Trying again…")).to_be_visible()
    site.open("restart-0")
    with site.gunicorn("--threads", "4", port=port):
        expect(page.get_by_role("status")).to_have_text("step 2 of 3")
        assert page.evaluate("window.mark") == "the same document"
        assert page.evaluate("window.shifts") == 0
        open_all(site, "restart")
        expect_result(page)
        context.close()
    site.engine.close()


def test_the_page_survives_a_dropped_network(ada: Visitor) -> None:
    page = ada.tab()
    ada.send_form(page, "drop")
    ada.context.set_offline(True)
    expect(page.get_by_text("No connection. Trying again…")).to_be_visible()
    open_all(ada.site, "drop")
    ada.context.set_offline(False)  # it asks at once, however long its pause had become
    expect_result(page)


# --- looks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen_in_both_schemes(
    browser: Browser, site: WebSite, origin: str, scheme: str
) -> None:
    narrow = {"viewport": {"width": 320, "height": 480}, "color_scheme": scheme}
    with visitor(browser, site, origin, **narrow) as ada:
        page = ada.tab()
        ada.send_form(page, f"narrow-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
        open_all(site, f"narrow-{scheme}")
        expect_result(page)


def test_long_words_of_a_task_do_not_move_the_page(ada: Visitor, origin: str) -> None:
    names = ["l" + "o" * 150 + "ng", "short", "with " + "many words " * 11 + "in it"]
    posted = http_post(f"{origin}/steps/{quote(','.join(names))}")
    page = ada.tab()
    page.goto(str(posted.headers["Location"]))
    for name in names:
        expect(page.get_by_role("status")).to_have_text(f"before {name}")
        assert page.evaluate("window.shifts") == 0
        ada.site.open(name)
    expect(page.get_by_role("heading", name="Done")).to_be_visible()


def test_who_wants_no_motion_sees_none(browser: Browser, site: WebSite, origin: str) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        with visitor(browser, site, origin, reduced_motion=motion) as ada:
            page = ada.tab()
            page.goto(str(http_post(f"{origin}/steps/motion").headers["Location"]))
            page.locator("progress").evaluate("bar => bar.removeAttribute('value')")
            animation = page.locator("progress").evaluate(
                "bar => getComputedStyle(bar).animationName"
            )
            assert (animation != "none") is moves
    site.open("motion")
