"""A result whose time (`result_ttl=`) is over is 410 on every way to it, for every client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_offload import Job, Offload
from flask_offload.testing import drain, travel

MINUTE = timedelta(minutes=1)
ASYNC = {"Prefer": "respond-async", "Idempotency-Key": "5f1e"}
HTML = {"Accept": "text/html"}

offload = Offload()


@offload.task(expose="result", result_ttl=60)
def count() -> int:
    return 7


@offload.task(expose="result", result_ttl=60)
def nothing() -> None: ...


@offload.task(expose="result")
def nothing_for_ever() -> None: ...


def report() -> Response:
    return Response("the report", headers={"ETag": '"of the view"'})


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(
        TESTING=True, OFFLOAD_SPOT=False, OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3"
    )
    offload.init_app(app)
    view = offload.respond_async(result_ttl=60)(report)
    app.add_url_rule("/report", view_func=view, methods=["POST"])
    yield app
    offload.state_of(app).engine.close()


def is_gone(response: TestResponse) -> bool:
    if response.status_code != 410:
        return False
    assert response.headers["Cache-Control"] == "no-store"
    assert response.mimetype in ("application/problem+json", "text/html")
    assert "no longer kept" in response.text
    assert "Retry-After" not in response.headers
    return True


@pytest.mark.parametrize("task", [count, nothing])
def test_a_return_value_expires(app: Flask, task: Any) -> None:
    client = app.test_client()
    with app.app_context():
        job: Job = task.enqueue()
    drain(app)
    url = f"/offload/jobs/{job.id}"
    before = client.get(url)
    assert client.get(f"{url}/result").status_code == 200
    tag = {"If-None-Match": before.headers["ETag"]}
    assert client.get(url, headers=tag).status_code == 304
    with travel(app, 2 * MINUTE):
        for headers in ({}, tag, HTML):
            assert is_gone(client.get(f"{url}/result", headers=headers))
        after = client.get(url, headers=tag)
        assert after.status_code == 200  # the job itself is still known
        assert after.json == {**before.json, "return_value": None, "links": {"self": url}}  # type: ignore[dict-item]
        assert "Show the result" not in client.get(url, headers=HTML).text
        changed = {"If-None-Match": after.headers["ETag"]}
        assert client.get(url, headers=changed).status_code == 304


def test_a_return_value_without_a_limit_stays(app: Flask) -> None:
    with app.app_context():
        job = nothing_for_ever.enqueue()
    drain(app)
    with travel(app, 60 * MINUTE):
        response = app.test_client().get(f"/offload/jobs/{job.id}/result")
        assert (response.status_code, response.text) == (200, "null")


def test_the_response_of_a_view_expires(app: Flask) -> None:
    client: FlaskClient = app.test_client()
    url = client.post("/report", headers=ASYNC).headers["Location"]
    drain(app)
    replayed = client.post("/report", headers=ASYNC)
    assert (replayed.status_code, replayed.text) == (200, "the report")
    with travel(app, 2 * MINUTE):
        for headers in ({}, HTML, {"If-None-Match": '"of the view"'}):
            assert is_gone(client.get(url, headers=headers))
            assert is_gone(client.get(f"{url}/result", headers=headers))
        assert is_gone(client.post("/report", headers=ASYNC))
        seen = client.get(f"{url}?status")
        assert (seen.status_code, seen.json["status"]) == (200, "SUCCESSFUL")  # type: ignore[index]
        assert "result" not in seen.json["links"]  # type: ignore[index]


def test_what_authorize_refuses_is_not_found_rather_than_gone(app: Flask) -> None:
    client = app.test_client()
    url = client.post("/report", headers=ASYNC).headers["Location"]
    drain(app)
    offload.authorize(lambda job: False)
    try:
        with travel(app, 2 * MINUTE):
            assert client.get(url).status_code == 404
            assert client.get(f"{url}/result").status_code == 404
            assert client.post("/report", headers=ASYNC).status_code == 422
    finally:
        offload.authorizer = None
