"""The job over HTTP: its document, its headers, cancelling, results, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_offload import Job
from web_app import broken, give_up, offload, patient, secret, shown, shown_failure, steps
from web_fixtures import client_fixture, site_fixture  # noqa: F401 (fixtures)
from web_servers import WebSite, location, poll_until

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def app(site: WebSite) -> Iterator[Flask]:
    with site.app.app_context():
        yield site.app


def url_of(job: Job) -> str:
    return f"/offload/jobs/{job.id}"


def problem_of(response: TestResponse) -> Any:
    assert response.mimetype == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"]
    assert body["type"] == "about:blank"
    return body


# --- accepted ----------------------------------------------------------------------------------


@pytest.mark.processes
def test_accepted_has_the_address_of_the_job(client: FlaskClient, site: WebSite) -> None:
    response = client.post("/steps/a1")
    assert response.status_code == 202
    assert response.get_json()["status"] == "READY"
    assert response.get_json()["links"]["self"] == location(response)
    assert response.get_json()["id"] in location(response)
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Cache-Control"] == "no-store"
    site.open("a1")
    poll_until(client, location(response), "SUCCESSFUL")


def test_a_browser_is_sent_to_the_page(client: FlaskClient, site: WebSite) -> None:
    site.open("a2")
    response = client.post("/steps/a2", headers=HTML)
    assert response.status_code == 303
    assert client.get(location(response), headers=HTML).mimetype == "text/html"


# --- how it stands -----------------------------------------------------------------------------


def test_a_job_from_start_to_end(client: FlaskClient, site: WebSite) -> None:
    url = location(client.post("/steps/b1,b2"))
    running = poll_until(client, url, "RUNNING")
    assert running["started_at"] is not None
    assert running["finished_at"] is None
    assert running["links"] == {"self": url, "cancel": f"{url}/cancel"}
    site.open("b1")
    seen = poll_until(client, url, "RUNNING", summary="before b2")
    assert seen["progress"] == {"done": 1, "total": 2, "fraction": 0.5, "message": "before b2"}
    site.open("b2")
    done = poll_until(client, url, "SUCCESSFUL")
    assert done["links"] == {"self": url}
    assert done["return_value"] is None  # the task does not expose it
    assert done["error"] is None
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["SUCCESSFUL"]
    assert datetime.fromisoformat(done["finished_at"]) >= datetime.fromisoformat(done["started_at"])
    response = client.get(url)
    assert response.status_code == 200
    assert "Retry-After" not in response.headers


def test_times_are_in_utc_with_a_zone(client: FlaskClient, app: Flask) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    job = steps.using(run_after=later).enqueue(["c1"])
    seen = client.get(url_of(job)).get_json()
    assert datetime.fromisoformat(seen["run_after"]) == later
    assert seen["status"] == "READY"
    assert seen["summary"] == "Waiting for its time…"
    assert client.get(url_of(job)).headers["Retry-After"] == "60"


def test_nothing_private_is_in_the_document(client: FlaskClient, app: Flask) -> None:
    job = secret.using(owner="user:7").enqueue("private argument")
    poll_until(client, url_of(job), "SUCCESSFUL")
    text = client.get(url_of(job)).text
    assert "private argument" not in text
    assert "user:7" not in text
    assert job.refresh().attempts[0].worker is not None
    assert str(job.attempts[0].worker) not in text


def test_a_failure_is_a_plain_sentence(client: FlaskClient, app: Flask) -> None:
    job = broken.enqueue("postgres://me:password@db")
    seen = poll_until(client, url_of(job), "FAILED")
    assert seen["error"] == {
        "type": "RuntimeError",
        "message": "Something went wrong while it ran.",
    }
    assert seen["links"]["retry"] == f"{url_of(job)}/retry"
    for headers in ({}, HTML):
        text = client.get(url_of(job), headers=headers).text
        assert "password" not in text
        assert "Traceback" not in text
        assert "Something went wrong" in text


def test_debug_mode_shows_the_traceback(client: FlaskClient, app: Flask) -> None:
    job = broken.enqueue("the very words")
    poll_until(client, url_of(job), "FAILED")
    app.debug = True
    try:
        assert (
            "raise RuntimeError(text)" in client.get(url_of(job)).get_json()["error"]["traceback"]
        )
        assert "raise RuntimeError(text)" in client.get(url_of(job), headers=HTML).text
    finally:
        app.debug = False


def test_reasons_that_are_meant_to_be_read_are_shown(client: FlaskClient, app: Flask) -> None:
    discarded = poll_until(client, url_of(give_up.enqueue()), "CANCELLED")
    assert discarded["error"] == {"type": "Discard", "message": "there is nothing to do"}
    failed = poll_until(client, url_of(shown_failure.enqueue()), "FAILED")
    assert failed["error"] == {"type": "ValueError", "message": "row 17 has no address"}


def test_a_job_between_two_attempts_says_so(client: FlaskClient, app: Flask) -> None:
    seen = poll_until(client, url_of(patient.enqueue()), "READY", summary="Trying again soon…")
    assert [attempt["outcome"] for attempt in seen["attempts"]] == ["RETRY"]


# --- conditional requests ----------------------------------------------------------------------


def test_nothing_new_is_said_without_a_body(client: FlaskClient, site: WebSite) -> None:
    url = location(client.post("/steps/d1,d2"))
    poll_until(client, url, "RUNNING", summary="before d1")
    tag = client.get(url).headers["ETag"]
    assert tag.startswith('W/"')
    same = client.get(url, headers={"If-None-Match": tag})
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", tag)
    assert int(same.headers["Retry-After"]) >= 1
    assert same.headers["Cache-Control"] == "no-store"
    site.open("d1", "d2")
    poll_until(client, url, "SUCCESSFUL")
    changed = client.get(url, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_a_304_reads_the_database_once(
    client: FlaskClient, app: Flask, site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = steps.using(run_after=timedelta(hours=1)).enqueue(["e1"])
    tag = client.get(url_of(job)).headers["ETag"]
    reads = []
    read = site.engine.database.read

    def counted(work: Any) -> Any:
        reads.append(work)
        return read(work)

    monkeypatch.setattr(site.engine.database, "read", counted)
    assert client.get(url_of(job), headers={"If-None-Match": tag}).status_code == 304
    assert len(reads) == 1


def test_two_jobs_never_share_a_tag(client: FlaskClient, app: Flask) -> None:
    jobs = [steps.using(run_after=timedelta(hours=1)).enqueue(["f1"]) for _ in range(2)]
    tags = {client.get(url_of(job)).headers["ETag"] for job in jobs}
    assert len(tags) == 2


def test_answers_depend_on_accept_and_are_never_cached(client: FlaskClient, app: Flask) -> None:
    url = url_of(steps.using(run_after=timedelta(hours=1)).enqueue(["g1"]))
    for headers in ({}, HTML):
        response = client.get(url, headers=headers)
        assert "Accept" in response.vary
        assert response.headers["Cache-Control"] == "no-store"


# --- methods -----------------------------------------------------------------------------------


def test_head_is_get_without_a_body(client: FlaskClient, app: Flask) -> None:
    url = url_of(steps.using(run_after=timedelta(hours=1)).enqueue(["h1"]))
    head, get = client.head(url), client.get(url)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("ETag", "Retry-After", "Content-Type", "Cache-Control", "Content-Length"):
        assert head.headers[name] == get.headers[name]
    known = {"If-None-Match": get.headers["ETag"]}
    assert client.head(url, headers=known).status_code == 304


def allowed(headers: Any) -> set[str]:
    message = Message()
    message["Allow"] = headers["Allow"]
    return {name.strip() for name in message["Allow"].split(",")}


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("/result", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("/cancel", {"POST", "OPTIONS"}),
        ("/retry", {"POST", "OPTIONS"}),
    ],
)
def test_wrong_methods_get_405_with_allow(
    client: FlaskClient, app: Flask, path: str, methods: set[str]
) -> None:
    url = url_of(steps.using(run_after=timedelta(hours=1)).enqueue(["i1"])) + path
    options = client.options(url)
    assert (options.status_code, allowed(options.headers)) == (204, methods)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - methods:
        response = client.open(url, method=method)
        assert problem_of(response)["status"] == 405
        assert allowed(response.headers) == methods


def test_an_unknown_id_is_404_everywhere(client: FlaskClient) -> None:
    for method, path in [
        ("GET", "nope"),
        ("GET", "0" * 44),
        ("DELETE", "nope"),
        ("GET", "nope/result"),
        ("POST", "nope/cancel"),
        ("POST", "nope/retry"),
    ]:
        response = client.open(f"/offload/jobs/{path}", method=method)
        assert problem_of(response)["status"] == 404


def test_a_browser_gets_problems_as_pages(client: FlaskClient) -> None:
    response = client.get("/offload/jobs/nope", headers=HTML)
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "There is no such job" in response.text


# --- cancel and retry --------------------------------------------------------------------------


def test_delete_cancels_a_waiting_job_at_once(client: FlaskClient, app: Flask) -> None:
    url = url_of(steps.using(run_after=timedelta(hours=1)).enqueue(["j1"]))
    response = client.delete(url)
    assert (response.status_code, response.get_json()["status"]) == (200, "CANCELLED")
    assert client.delete(url).status_code == 200  # DELETE may be repeated


def test_delete_asks_a_running_job_to_stop(client: FlaskClient, site: WebSite) -> None:
    url = location(client.post("/steps/k1"))
    poll_until(client, url, "RUNNING")
    response = client.delete(url)
    assert response.status_code == 202
    assert response.get_json()["cancel_requested"] is True
    assert "cancel" not in response.get_json()["links"]
    assert poll_until(client, url, "CANCELLED")["error"]["type"] == "JobCancelled"


def test_a_finished_job_cannot_be_cancelled(client: FlaskClient, app: Flask) -> None:
    job = shown.enqueue("x")
    poll_until(client, url_of(job), "SUCCESSFUL")
    assert "finished" in problem_of(client.delete(url_of(job)))["detail"]
    assert client.delete(url_of(job)).status_code == 409


def test_the_buttons_lead_back_to_the_job(client: FlaskClient, app: Flask, site: WebSite) -> None:
    job = steps.using(run_after=timedelta(hours=1)).enqueue(["l1"])
    for _ in range(2):  # a second press changes nothing
        assert location(client.post(f"{url_of(job)}/cancel")) == url_of(job)
        assert job.refresh().status == "CANCELLED"
    site.open("l1")
    assert location(client.post(f"{url_of(job)}/retry")) == url_of(job)
    poll_until(client, url_of(job), "SUCCESSFUL")
    assert location(client.post(f"{url_of(job)}/retry")) == url_of(job)
    assert job.refresh().status == "SUCCESSFUL"


# --- results -----------------------------------------------------------------------------------


def test_an_exposed_result_is_shown(client: FlaskClient, app: Flask) -> None:
    job = shown.enqueue("hello")
    expected = {"text": "hello", "day": "2026-11-23", "raw": "/w=="}
    seen = poll_until(client, url_of(job), "SUCCESSFUL")
    assert seen["return_value"] == expected
    response = client.get(seen["links"]["result"])
    assert (response.status_code, response.get_json()) == (200, expected)
    assert response.headers["Cache-Control"] == "no-store"


def test_a_result_that_is_not_exposed_is_not_shown(client: FlaskClient, app: Flask) -> None:
    job = secret.enqueue("hello")
    assert "result" not in poll_until(client, url_of(job), "SUCCESSFUL")["links"]
    response = client.get(f"{url_of(job)}/result")
    assert problem_of(response)["status"] == 404
    assert "hello" not in response.text


def test_who_asks_too_early_is_sent_to_the_job(client: FlaskClient, app: Flask) -> None:
    job = shown.using(run_after=timedelta(hours=1)).enqueue("hello")
    assert location(client.get(f"{url_of(job)}/result")) == url_of(job)


def test_a_failed_job_has_no_result(client: FlaskClient, app: Flask) -> None:
    job = shown_failure.enqueue()
    poll_until(client, url_of(job), "FAILED")
    problem = problem_of(client.get(f"{url_of(job)}/result"))
    assert problem["status"] == 410
    assert problem["detail"] == "There is no result: row 17 has no address"
    assert "retry" in problem["links"]


def test_a_job_that_is_gone_is_gone_in_words(client: FlaskClient, app: Flask) -> None:
    assert offload.authorizer is None
    first = problem_of(client.get("/offload/jobs/one"))
    second = problem_of(client.get("/offload/jobs/other"))
    assert first["detail"] == second["detail"]
