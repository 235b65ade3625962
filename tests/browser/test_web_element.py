"""`<offload-job>` on a page of the app, and the documentation's recipes, in a real Chromium."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Page, Response, expect

from browser_fixtures import ada_fixture, browser_fixture, origin_fixture  # noqa: F401 (fixtures)
from support import http_post, http_request, wait_until
from web_app import offload, shown, shown_failure, steps
from web_browser import Visitor, listen, requests_of, wait_for
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite

DONE, FAILED, PROGRESS = "offload:done", "offload:failed", "offload:progress"


def start(origin: str, *gates: str) -> str:
    return http_post(f"{origin}/steps/{','.join(gates)}").headers["Location"].rpartition("/")[2]


def enqueue(ada: Visitor, task: Any, *arguments: Any, **using: Any) -> str:
    with ada.site.app.app_context():
        job_id: str = task.using(**using).enqueue(*arguments).id
    return job_id


def embed(ada: Visitor, job_id: str, how: str = "embed") -> Page:
    """A page of the app with the element on it, whose events are noted."""
    page = ada.tab()
    listen(page)
    page.goto(f"{ada.origin}/{how}/{job_id}")
    return page


def wait_for_event(page: Page, type_: str) -> list[dict[str, Any]]:
    fired: list[dict[str, Any]] = []

    def happened() -> bool:
        fired[:] = page.evaluate("window.fired")
        return any(event["type"] == type_ for event in fired)

    wait_until(happened, 20, lambda: f"{type_} among {fired}")
    return fired


# --- events ------------------------------------------------------------------------------------


def test_it_fires_events_for_progress_and_the_end(ada: Visitor) -> None:
    page = embed(ada, start(ada.origin, "ev-1", "ev-2"), "furnished")
    expect(page.get_by_role("status")).to_have_text("before ev-1")
    ada.site.open("ev-1")
    expect(page.get_by_role("status")).to_have_text("before ev-2")
    ada.site.open("ev-2")
    fired = wait_for_event(page, DONE)
    assert [event["type"] for event in fired[:-1]] == [PROGRESS] * (len(fired) - 1)
    assert fired[-2]["detail"]["progress"]["fraction"] == 0.5
    assert (fired[-1]["type"], fired[-1]["status"]) == (DONE, "SUCCESSFUL")
    expect(page.get_by_role("status")).to_have_text("Done.")
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("value", "1")
    assert page.evaluate("window.shifts") == 0
    assert page.evaluate("window.violations") == []
    assert page.url.endswith(f"/furnished/{fired[-1]['detail']['id']}")  # it stays where it is


def test_a_finished_job_fires_one_event(ada: Visitor) -> None:
    page = embed(ada, enqueue(ada, shown, "hello"))
    fired = wait_for_event(page, DONE)
    assert [event["type"] for event in fired].count(DONE) == 1
    assert fired[-1]["detail"]["return_value"]["text"] == "hello"
    assert fired[-1]["detail"]["links"]["result"]


def test_a_failure_fires_an_event_with_its_reason(ada: Visitor) -> None:
    page = embed(ada, enqueue(ada, shown_failure))
    fired = wait_for_event(page, FAILED)
    assert fired[-1]["status"] == "FAILED"
    expect(page.get_by_role("status")).to_have_text("row 17 has no address")


def test_a_cancelled_job_has_not_worked_out_either(ada: Visitor) -> None:
    job_id = start(ada.origin, "never")
    page = embed(ada, job_id)
    wait_for_event(page, PROGRESS)
    http_request("DELETE", f"{ada.origin}/offload/jobs/{job_id}")
    assert wait_for_event(page, FAILED)[-1]["status"] == "CANCELLED"


def test_a_job_that_cannot_be_seen_is_said_so(ada: Visitor) -> None:
    page = embed(ada, "0" * 44)
    assert wait_for_event(page, FAILED)[-1]["status"] is None
    expect(page.get_by_role("status")).to_contain_text("be seen any more.")


def test_another_href_is_another_job(ada: Visitor) -> None:
    page = embed(ada, enqueue(ada, shown, "one"))
    wait_for_event(page, DONE)
    other = enqueue(ada, shown, "two")
    page.evaluate(
        "id => document.querySelector('offload-job').setAttribute('href', '/offload/jobs/' + id)",
        other,
    )
    wait_until(
        lambda: page.evaluate("window.fired.at(-1).detail.id") == other, 20, "the other job's end"
    )


# --- how it asks -------------------------------------------------------------------------------


def test_it_asks_only_for_what_is_new(ada: Visitor) -> None:
    answers: list[Response] = []
    page = ada.tab()
    page.on(
        "response",
        lambda answer: answers.append(answer) if "/offload/jobs/" in answer.url else None,
    )
    page.goto(f"{ada.origin}/embed/{start(ada.origin, 'tag')}")
    page.clock.install()

    def unchanged() -> bool:
        page.clock.run_for(500)
        return any(answer.status == 304 for answer in answers)

    wait_until(unchanged, 20, "a 304")
    answer = next(answer for answer in answers if answer.status == 304)
    assert answer.request.headers["if-none-match"].startswith('W/"')
    ada.site.open("tag")


def test_it_waits_as_long_as_retry_after_says(ada: Visitor) -> None:
    page = ada.tab()
    page.clock.install()
    job_id = enqueue(ada, steps, ["x"], run_after=timedelta(hours=1))  # Retry-After: 60
    polls = requests_of(page)
    page.goto(f"{ada.origin}/embed/{job_id}")
    page.clock.run_for(300)
    wait_for(page, 1, polls)
    expect(page.get_by_role("status")).to_have_text("Waiting for its time…")
    page.clock.run_for(58_000)
    assert len(polls) == 1
    page.clock.run_for(2_500)
    wait_for(page, 2, polls)


def test_a_hidden_tab_does_not_ask(ada: Visitor) -> None:
    page = ada.tab()
    page.clock.install()
    polls = requests_of(page)
    page.goto(f"{ada.origin}/embed/{start(ada.origin, 'hidden')}")
    page.clock.run_for(300)
    wait_for(page, 1, polls)
    show(page, hidden=True)
    before = len(polls)
    page.clock.run_for(120_000)
    assert len(polls) == before
    ada.site.open("hidden")
    show(page, hidden=False)
    wait_for(page, before + 1, polls)  # at once, without a tick of the clock
    page.clock.resume()
    expect(page.get_by_role("status")).to_have_text("Done.")


def show(page: Page, *, hidden: bool) -> None:
    """Hide the tab, or show it: the headless shell has no other tab to bring to the front."""
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_an_element_that_was_taken_out_is_silent(ada: Visitor) -> None:
    page = ada.tab()
    page.clock.install()
    polls = requests_of(page)
    page.goto(f"{ada.origin}/embed/{start(ada.origin, 'out')}")
    page.clock.run_for(300)
    wait_for(page, 1, polls)
    page.evaluate("document.querySelector('offload-job').remove()")
    before = len(polls)
    page.clock.run_for(120_000)
    assert len(polls) == before
    ada.site.open("out")


# --- its file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "type_"), [("offload-job.js", "text/javascript"), ("offload.css", "text/css")]
)
def test_files_are_kept_for_long_under_a_digest(
    client: FlaskClient, site: WebSite, name: str, type_: str
) -> None:
    with site.app.test_request_context():
        url = site.app.jinja_env.globals["offload_asset"](name)  # type: ignore[operator]
    found = client.get(url)
    assert (found.status_code, found.mimetype) == (200, type_)
    assert found.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    outdated = client.get(f"/offload/assets/0123456789abcdef/{name}")
    assert (outdated.data, outdated.headers["Cache-Control"]) == (found.data, "no-cache")


def test_only_our_files_are_served(client: FlaskClient) -> None:
    assert client.get("/offload/assets/0123456789abcdef/../blueprint.py").status_code == 404
    assert client.get("/offload/assets/0123456789abcdef/blueprint.py").status_code == 404


def test_the_element_stays_small(site: WebSite) -> None:
    folder = Path(offload.__class__.__init__.__code__.co_filename).parent / "web" / "static"
    assert (folder / "offload-job.js").stat().st_size < 10_000
