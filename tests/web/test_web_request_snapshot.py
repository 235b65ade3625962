"""What of a request travels into the job, and what of its response comes back."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

import web_app
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite, client_of, location, make_web_site, poll_until

ASYNC = {"Prefer": "respond-async"}


def both(client: FlaskClient, path: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the view sees of the same request, here and in the worker."""
    headers = options.pop("headers", {})
    options.setdefault("method", "POST")
    make = options.pop("make", dict)
    here = client.open(path, headers=headers, **options, **make()).get_json()
    response = client.open(path, headers={**headers, **ASYNC}, **options, **make())
    url = location(response).removeprefix("/sub")
    poll_until(client, url, "SUCCESSFUL")
    result = client.get(f"{url}/result")
    assert result.status_code == 201
    assert result.headers["X-Extra"] == "yes"
    moved = result.get_json()
    assert (here.pop("in_job"), moved.pop("in_job")) == (False, True)
    here.pop("headers"), moved.pop("headers")
    return here, moved


@pytest.mark.processes
@pytest.mark.parametrize(
    "options",
    [
        {"path": "/echo/plain", "method": "GET"},
        {"path": "/echo/a%2520b%3Fc/ü", "method": "GET", "query_string": "q=%26&q=2&ü=%C3%BC"},
        {"path": "/echo/form", "data": {"a": ["1", "2"], "b": "ü"}},
        {"path": "/echo/signed", "data": {"a": ["1", "2"], "b": "ü"}},
        {"path": "/echo/json", "json": {"deep": [1, {"x": None}]}},
        {"path": "/echo/raw", "data": b"\x00\xff\xfe", "content_type": "application/octet-stream"},
        {"path": "/echo/empty", "method": "PUT"},
        {"path": "/echo/host", "base_url": "https://shop.example/sub"},
        {
            "path": "/echo/files",
            "make": lambda: {
                "data": {"one": (io.BytesIO(b"\x89PNG\xff"), "ü.png", "image/png"), "text": "t"}
            },
        },
    ],
    ids=lambda options: options["path"].rpartition("/")[2],
)
def test_a_view_sees_the_same_request_in_the_job(
    client: FlaskClient, options: dict[str, Any]
) -> None:
    here, moved = both(client, **options)
    assert moved == here


def seen_in_job(client: FlaskClient, **options: Any) -> dict[str, Any]:
    headers = {**options.pop("headers", {}), **ASYNC}
    url = location(client.post("/echo/x", headers=headers, **options))
    poll_until(client, url, "SUCCESSFUL")
    seen: dict[str, Any] = client.get(f"{url}/result").get_json()
    return seen


def test_secret_headers_are_not_stored(client: FlaskClient, site: WebSite) -> None:
    client.post("/login/ada")
    headers = {
        "Authorization": "Bearer hush-bearer",
        "X-Api-Key": "hush-key",
        "X-Tenant": "named by the view",
        "Accept-Language": "de",
    }
    seen = seen_in_job(client, headers=headers)
    assert not {"Authorization", "Cookie", "X-Api-Key"} & seen["headers"].keys()
    assert seen["headers"]["X-Tenant"] == "named by the view"
    assert seen["headers"]["Accept-Language"] == "de"
    for path in site.folder.iterdir():
        if path.is_file():
            assert b"hush-" not in path.read_bytes()


def test_the_user_and_the_named_part_of_the_session_come_along(client: FlaskClient) -> None:
    client.post("/login/ada")
    seen = seen_in_job(client)
    assert seen["user"] == "ada"
    assert seen["session"] == {"cart": ["apple"]}


def test_a_stranger_is_a_stranger_in_the_job(client: FlaskClient) -> None:
    seen = seen_in_job(client)
    assert (seen["user"], seen["session"]) == (None, {})


# --- responses ---------------------------------------------------------------------------------


def result_of(client: FlaskClient, kind: str, status: str = "SUCCESSFUL") -> Any:
    url = location(client.get(f"/answers/{kind}", headers=ASYNC))
    poll_until(client, url, status)
    return client.get(f"{url}/result")


def test_streams_and_files_and_bytes_come_back_whole(client: FlaskClient) -> None:
    streamed = result_of(client, "stream")
    assert streamed.text == "".join(f"/answers/stream {number}\n" for number in range(3))
    file = result_of(client, "file")
    assert (file.data, file.mimetype) == (Path(web_app.__file__).read_bytes(), "text/x-python")
    raw = result_of(client, "bytes")
    assert (raw.data, raw.mimetype) == (bytes(range(256)), "application/octet-stream")
    assert raw.content_length == 256


def test_an_endless_stream_is_cut_off_in_words(client: FlaskClient, site: WebSite) -> None:
    url = location(client.get("/answers/endless", headers=ASYNC))
    poll_until(client, url, "FAILED")
    error = site.job(url.rpartition("/")[2]).error
    assert error is not None
    assert error.type == "PayloadTooLarge"
    assert "OFFLOAD_MAX_PAYLOAD" in error.message


def test_no_cookie_is_part_of_the_result(client: FlaskClient) -> None:
    direct = client.get("/answers/cookie", headers={"Prefer": "respond-async, wait=10"})
    assert direct.text == "with a cookie"
    assert "Set-Cookie" not in direct.headers
    assert "Set-Cookie" not in result_of(client, "cookie").headers


@pytest.mark.processes
def test_lost_cookies_are_named_in_the_workers_log(tmp_path: Path) -> None:
    site = make_web_site(tmp_path)
    with site.worker() as worker, client_of(site) as client:
        result_of(client, "cookie")
        worker.wait_for("cookies session, sid, which are not part of the result")
        assert "secret" not in worker.output()


def test_redirects_lead_where_they_led_from_the_view(client: FlaskClient) -> None:
    result = result_of(client, "redirect")
    assert (result.status_code, result.headers["Location"]) == (302, "/elsewhere")


def test_errors_that_the_app_handles_are_answers(client: FlaskClient) -> None:
    assert result_of(client, "abort").status_code == 404
    assert (result_of(client, "handled").status_code) == 418


def test_a_result_is_never_public(client: FlaskClient) -> None:
    assert client.get("/answers/cached").headers["Cache-Control"] == "public, max-age=60"
    assert result_of(client, "cached").headers["Cache-Control"] == "no-store"


def test_hooks_run_around_requests_not_around_the_view(client: FlaskClient) -> None:
    """Once when the request comes and once when the result is fetched, in the web process."""
    result = result_of(client, "plain")
    assert result.get_json() == {"before": 0}
    assert result.headers.getlist("X-After") == ["1"]


# --- forms with CSRF tokens --------------------------------------------------------------------


def token_in(html: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', html)
    assert found is not None, html
    return found[1]


def finish(client: FlaskClient, url: str) -> str:
    poll_until(client, url, "SUCCESSFUL")
    return client.get(f"{url}/result").text


def test_a_form_that_checks_its_token_works_in_the_job(client: FlaskClient) -> None:
    token = token_in(client.get("/checked").text)
    form = {"name": "Ada", "csrf_token": token}
    assert (
        finish(client, location(client.post("/checked", data=form, headers=ASYNC))) == "valid Ada"
    )


def test_a_form_shown_again_by_the_job_can_be_sent_again(client: FlaskClient) -> None:
    token = token_in(client.get("/checked").text)
    form = {"name": "", "csrf_token": token}
    again = finish(client, location(client.post("/checked", data=form, headers=ASYNC)))
    assert "This field is required" in again
    form = {"name": "Ada", "csrf_token": token_in(again)}
    assert finish(client, location(client.post("/checked", data=form))) == "valid Ada"


def test_a_form_without_an_address_reaches_its_view_from_the_result(client: FlaskClient) -> None:
    url = location(client.post("/checked?a=%26&b", data={"name": ""}))
    assert client.post(f"{url}/result").status_code in (307, 404)  # 404 while there is no result
    poll_until(client, url, "SUCCESSFUL")
    sent_on = client.post(f"{url}/result", data={"name": "Ada"})
    assert (sent_on.status_code, sent_on.headers["Location"]) == (307, "/checked?a=%26&b")


@pytest.mark.parametrize("token", [None, "forged"])
def test_a_forged_token_is_refused_in_the_job_too(client: FlaskClient, token: str | None) -> None:
    client.get("/checked")
    form = {"name": "Ada"} | ({} if token is None else {"csrf_token": token})
    shown = finish(client, location(client.post("/checked", data=form, headers=ASYNC)))
    assert "csrf_token" in shown
    assert "valid Ada" not in shown


def test_a_token_of_another_session_is_refused(client: FlaskClient, site: WebSite) -> None:
    stolen = token_in(site.app.test_client().get("/checked").text)
    client.get("/checked")
    form = {"name": "Ada", "csrf_token": stolen}
    shown = finish(client, location(client.post("/checked", data=form, headers=ASYNC)))
    assert "valid Ada" not in shown


def test_global_protection_covers_async_views_and_our_buttons(site: WebSite) -> None:
    """With CSRFProtect on, the buttons of the page carry its token."""
    strict = make_web_site(site.folder, WTF_CSRF_CHECK_DEFAULT=True)
    html = {"Accept": "text/html"}
    with client_of(strict) as client:
        assert client.post("/checked", data={"name": "Ada"}, headers=ASYNC).status_code == 400
        token = token_in(client.get("/checked").text)
        form = {"name": "Ada", "gate": "csrf", "csrf_token": token}
        url = location(client.post("/slow-form", data=form, headers=html))
        assert client.post(f"{url}/cancel").status_code == 400
        button = token_in(client.get(url, headers=html).text)
        client.post(f"{url}/cancel", data={"csrf_token": button})
        poll_until(client, url, "CANCELLED")
        again = token_in(client.get(f"{url}/result", headers=html).text)
        strict.open("csrf-0", "csrf-1", "csrf-2")
        client.post(f"{url}/retry", data={"csrf_token": again})
        poll_until(client, url, "SUCCESSFUL")


# --- sizes -------------------------------------------------------------------------------------


def test_a_request_too_large_to_keep_is_refused(client: FlaskClient) -> None:
    body = json.dumps({"text": "x" * 2_000_000})
    response = client.post("/echo/x", data=body, content_type="application/json", headers=ASYNC)
    assert (response.status_code, response.mimetype) == (413, "application/problem+json")
    assert "OFFLOAD_MAX_PAYLOAD" in response.get_json()["detail"]
    assert client.post("/echo/x", data=body, content_type="application/json").status_code == 201


def test_files_do_not_count_as_payload(site: WebSite) -> None:
    """They lie in the spool until the job has ended."""
    frugal = make_web_site(site.folder, OFFLOAD_MAX_PAYLOAD=10_000)
    with client_of(frugal) as client:
        seen = seen_in_job(client, data={"photo": (io.BytesIO(b"x" * 100_000), "p.jpg")})
    assert len(seen["files"]["photo"][2]) == 100_000
    spool = Path(f"{site.env['FLASK_OFFLOAD_SQLITE_PATH']}-files")
    assert not [path for path in spool.iterdir() if path.is_file()]
