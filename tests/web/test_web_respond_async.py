"""`Prefer: respond-async`: who waits, who gets an address, and the result at that address."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask.views import MethodView

from flask_offload import Offload, OptionError
from flask_offload.web.respond_async import MAX_WAIT
from web_app import create_app
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite, location, poll_until

ASYNC = {"Prefer": "respond-async"}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


# --- who waits ---------------------------------------------------------------------------------


@pytest.mark.processes
def test_without_the_preference_the_view_runs_as_usual(client: FlaskClient) -> None:
    response = client.post("/echo/here", data={"a": "1"})
    assert response.status_code == 201
    assert response.get_json()["in_job"] is False
    assert "Preference-Applied" not in response.headers
    assert "Prefer" in response.vary


def test_with_it_the_client_gets_the_address_of_the_job(client: FlaskClient, site: WebSite) -> None:
    response = client.get("/gated/a1", headers=ASYNC)
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "respond-async"
    assert "Prefer" in response.vary
    assert response.get_json()["links"]["self"] == location(response)
    url = location(response)
    waiting = client.get(url)
    assert waiting.status_code == 202
    assert int(waiting.headers["Retry-After"]) >= 1
    site.open("a1")
    poll_until(client, url, "SUCCESSFUL")
    done = client.get(url)
    assert (done.status_code, location(done)) == (302, f"{url}/result")
    assert client.head(url).status_code == 302
    result = client.get(location(done))
    assert (result.status_code, result.text) == (200, "passed a1")
    assert "Retry-After" not in result.headers
    assert result.headers["Cache-Control"] == "no-store"


def test_it_waits_as_long_as_the_client_does(client: FlaskClient, site: WebSite) -> None:
    site.open("b1")
    response = client.get("/gated/b1", headers={"Prefer": "respond-async, wait=10"})
    assert (response.status_code, response.text) == (200, "passed b1")
    assert response.headers["Preference-Applied"] == "respond-async, wait=10"
    assert "Prefer" in response.vary


def test_and_not_longer(client: FlaskClient, site: WebSite) -> None:
    began = time.monotonic()
    response = client.get("/gated/c1", headers={"Prefer": "respond-async, wait=1"})
    assert response.status_code == 202
    assert time.monotonic() - began >= 1
    assert response.headers["Preference-Applied"] == "respond-async, wait=1"
    site.open("c1")


def test_no_longer_wait_is_promised_than_is_kept(client: FlaskClient) -> None:
    asked = {"Prefer": "respond-async, wait=3600"}
    response = client.post("/quick", data={"name": "Ada"}, headers=asked)
    assert response.headers["Preference-Applied"] == "respond-async, wait=5"
    response = client.get("/answers/plain", headers=asked)
    assert response.headers["Preference-Applied"] == f"respond-async, wait={MAX_WAIT:.0f}"


def test_always_holds_for_the_quick_ones(client: FlaskClient) -> None:
    response = client.post("/quick", data={"name": "Ada"}, headers=HTML)
    assert (response.status_code, response.text) == (200, "<h1>Hello Ada</h1>")


def test_a_browser_with_a_slow_form_sees_the_page(client: FlaskClient, site: WebSite) -> None:
    response = client.post("/slow-form", data={"name": "Ada", "gate": "d"}, headers=HTML)
    url = location(response)
    assert response.status_code == 303
    page = client.get(url, headers=HTML)
    assert page.status_code == 202
    assert int(page.headers["Refresh"]) >= 2
    assert int(page.headers["Retry-After"]) >= 1  # the rule for `Location` holds for all clients
    site.open("d-0", "d-1", "d-2")
    poll_until(client, url, "SUCCESSFUL")
    assert location(client.get(url, headers=HTML)) == f"{url}/result"
    assert "<h1>Hello Ada</h1>" in client.get(f"{url}/result", headers=HTML).text


def test_other_clients_of_the_same_form_get_202(client: FlaskClient, site: WebSite) -> None:
    site.open("e-0", "e-1", "e-2")
    response = client.post("/slow-form", data={"name": "Ada", "gate": "e"})
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers  # not asked for
    poll_until(client, location(response), "SUCCESSFUL")


def test_head_and_options_make_no_job(
    client: FlaskClient, site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATES", str(site.folder))
    site.open("f1")
    assert client.head("/gated/f1", headers=ASYNC).status_code == 200
    options = client.options("/gated/f1", headers=ASYNC)
    assert options.status_code == 200
    assert set(options.headers["Allow"].split(", ")) == {"GET", "POST", "HEAD", "OPTIONS"}


# --- endings -----------------------------------------------------------------------------------


def test_a_view_that_fails_ends_in_500(client: FlaskClient) -> None:
    url = location(client.get("/answers/broken", headers=ASYNC))
    seen = poll_until(client, url, "FAILED")
    assert seen["error"]["type"] == "RuntimeError"
    assert location(client.get(url)) == f"{url}/result"
    result = client.get(f"{url}/result")
    assert (result.status_code, result.mimetype) == (500, "application/problem+json")
    assert result.get_json()["links"]["retry"] == f"{url}/retry"
    page = client.get(f"{url}/result", headers=HTML)
    assert (page.status_code, page.mimetype) == (500, "text/html")
    assert f'action="{url}/retry"' in page.text
    for text in (result.text, page.text):
        assert "secret sauce" not in text


def test_a_failure_in_time_is_returned_at_once(client: FlaskClient) -> None:
    response = client.get("/answers/broken", headers={"Prefer": "respond-async, wait=10"})
    assert (response.status_code, response.mimetype) == (500, "application/problem+json")


def test_a_cancelled_request_is_gone(client: FlaskClient, site: WebSite) -> None:
    url = location(client.get("/gated/g1", headers=ASYNC))
    poll_until(client, url, "RUNNING")
    assert client.delete(url).status_code == 202
    poll_until(client, url, "CANCELLED")
    assert location(client.get(url)) == f"{url}/result"
    assert client.get(f"{url}/result").status_code == 410
    site.open("g1")
    client.post(f"{url}/retry")
    poll_until(client, url, "SUCCESSFUL")
    assert client.get(f"{url}/result").text == "passed g1"


def test_who_asks_for_the_result_too_early_is_sent_to_the_job(
    client: FlaskClient, site: WebSite
) -> None:
    url = location(client.get("/gated/h1", headers=ASYNC))
    assert location(client.get(f"{url}/result")) == url
    site.open("h1")


# --- a client that knows only RFC 7240 and Location --------------------------------------------


def ask_as_the_rfc_says(url: str) -> tuple[int, bytes]:
    """POST with the preference; then GET `Location`, as long as `Retry-After` asks for it."""
    request = urllib.request.Request(url, b"", {"Prefer": "respond-async"})
    with urllib.request.urlopen(request) as response:
        if response.status != 202:
            return response.status, response.read()
        monitor = urljoin(url, response.headers["Location"])
        pause = response.headers["Retry-After"]
    while pause is not None:
        time.sleep(int(pause))
        with urllib.request.urlopen(monitor) as response:
            status, body = response.status, response.read()
            pause = response.headers["Retry-After"]
    return status, body


@pytest.mark.processes
def test_a_client_that_knows_only_the_rfc_gets_its_result(site: WebSite) -> None:
    with site.gunicorn() as origin:
        site.open("i1")
        assert ask_as_the_rfc_says(f"{origin}/gated/i1") == (200, b"passed i1")
    site.engine.close()


# --- declaring ---------------------------------------------------------------------------------


def make(folder: Path) -> tuple[Flask, Offload]:
    app, offload = Flask(__name__), Offload()
    app.config.update(OFFLOAD_SQLITE_PATH=str(folder / "jobs.sqlite3"), OFFLOAD_WORKER="off")
    offload.init_app(app)
    return app, offload


def test_an_async_view_is_a_task_under_the_views_name(tmp_path: Path) -> None:
    app, offload = make(tmp_path)

    @app.get("/one")
    @offload.respond_async(queue_name="slow", timeout=5)
    def one() -> str:
        return "1"

    (task,) = offload.tasks.values()
    assert task.name == f"{__name__}.{one.__qualname__}"
    assert (task.options.queue_name, task.options.timeout) == ("slow", 5)


def test_class_based_views_have_different_names(tmp_path: Path) -> None:
    app, offload = make(tmp_path)

    class One(MethodView):
        decorators = [offload.respond_async]  # noqa: RUF012

        def get(self) -> str:
            return "one"

    class Two(MethodView):
        decorators = [offload.respond_async]  # noqa: RUF012

        def get(self) -> str:
            return "two"

    app.add_url_rule("/one", view_func=One.as_view("one"))
    app.add_url_rule("/two", view_func=Two.as_view("two"))
    assert [name.rpartition(".")[2] for name in offload.tasks] == ["one", "two"]
    client = app.test_client()
    assert (client.get("/one").text, client.get("/two").text) == ("one", "two")


def test_two_views_of_one_name_are_refused(tmp_path: Path) -> None:
    _, offload = make(tmp_path)

    @offload.respond_async(name="same")
    def one() -> str:
        return "1"

    def two() -> str:
        return "2"

    with pytest.raises(OptionError, match="two tasks are named 'same'"):
        offload.respond_async(name="same")(two)


def test_a_factory_may_run_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        create_app(OFFLOAD_SQLITE_PATH=str(tmp_path / name), OFFLOAD_WORKER="off")


def test_always_can_be_for_some_methods_only(client: FlaskClient) -> None:
    assert client.get("/checked", headers=HTML).status_code == 200
    assert client.post("/checked", headers=HTML).status_code == 303


@pytest.mark.parametrize("always", ["post", ["POST", "HEAD"], [1]])
def test_methods_that_make_no_sense_are_refused(tmp_path: Path, always: Any) -> None:
    _, offload = make(tmp_path)
    with pytest.raises(OptionError, match="always="):
        offload.respond_async(always=always)(lambda: "")


@pytest.mark.parametrize("wait", [-1, 4000, True])
def test_a_wait_that_makes_no_sense_is_refused(tmp_path: Path, wait: float) -> None:
    _, offload = make(tmp_path)
    with pytest.raises(OptionError, match="wait="):
        offload.respond_async(wait=wait)(lambda: "")
