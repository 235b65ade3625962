"""Who may use the dashboard: closed by default, whatever is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, g, session
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from dashboard_site import ADDRESSES, METHODS, PREFIX, Shop, act, fields_of, shop
from flask_offload import JobStatus, Offload, signals


def statuses(made: Shop, job_id: str, **options: Any) -> set[int]:
    """The statuses of every method on every address."""
    client = made.client()
    return {
        client.open(PREFIX + path, method=method, **options).status_code
        for path in (*ADDRESSES, f"/jobs/{job_id}", "//jobs", "/jobs//")
        for method in METHODS
    }


def raises(error: BaseException) -> Any:
    def function() -> bool:
        raise error

    return function


async def in_a_coroutine() -> bool:
    return True


ODD = {
    "False": lambda: False,
    "None": lambda: None,
    "1": lambda: 1,
    "yes": lambda: "yes",
    "True as text": lambda: "True",
    "READ": lambda: "READ",
    "an object": object,
    "a list": lambda: ["read"],
    "an error": lambda: 1 / 0,
    "abort": lambda: abort(403),
    "a wrong signature": lambda request: True,
    "StopIteration": raises(StopIteration()),
    "a coroutine": lambda: in_a_coroutine(),
}


def test_outside_of_debug_it_is_closed(tmp_path: Path) -> None:
    with shop(tmp_path) as made:
        assert statuses(made, made.run(1).id) == {404}


def test_its_404_is_like_any_other_of_the_app(tmp_path: Path) -> None:
    with shop(tmp_path) as made:
        client = made.client()
        closed, unknown = client.get(f"{PREFIX}/jobs"), client.get("/nothing/here")
        assert closed.data == unknown.data
        assert closed.headers == unknown.headers


@pytest.mark.parametrize("access", ODD.values(), ids=ODD)
def test_odd_answers_of_the_function_leave_it_closed(access: Any, tmp_path: Path) -> None:
    with shop(tmp_path, access=access, DEBUG=True) as made:
        assert statuses(made, made.run(1).id) == {404}


def test_switched_off_it_is_closed_to_all(tmp_path: Path) -> None:
    with shop(tmp_path, access=lambda: True, DEBUG=True, OFFLOAD_DASHBOARD=False) as made:
        assert statuses(made, made.run(1).id) == {404}


def test_closed_is_closed_under_csrf_protection_too(tmp_path: Path) -> None:
    """CSRFProtect answers a POST with 400 before any view, which would show that one is there."""
    for order in ("before", "after"):
        app = Flask("shop")
        app.config.update(
            SECRET_KEY="k", OFFLOAD_SQLITE_PATH=str(tmp_path / order), OFFLOAD_WORKER="off"
        )
        offload, protection = Offload(), CSRFProtect()
        for extension in (protection, offload) if order == "before" else (offload, protection):
            extension.init_app(app)
        assert app.test_client().post(f"{PREFIX}/queues").status_code == 404


@pytest.mark.parametrize(
    ("peer", "host", "headers", "status"),
    [
        ("127.0.0.1", "localhost:5000", {}, 200),
        ("127.8.8.8", "127.0.0.1", {}, 200),
        ("::1", "[::1]:5000", {}, 200),
        ("::ffff:127.0.0.1", "shop.localhost", {}, 200),
        ("192.168.1.7", "localhost", {}, 404),
        ("", "localhost", {}, 404),
        ("127.0.0.1", "evil.example", {}, 404),
        ("127.0.0.1", "127.0.0.1.evil.example", {}, 404),
        ("127.0.0.1", "localhost.evil.example", {}, 404),
        ("192.168.1.7", "localhost", {"X-Forwarded-For": "127.0.0.1"}, 404),
        ("127.0.0.1", "localhost", {"X-Forwarded-For": "10.0.0.9"}, 404),
        ("127.0.0.1", "localhost", {"Forwarded": "for=10.0.0.9"}, 404),
        ("127.0.0.1", "localhost", {"X-Real-IP": "10.0.0.9"}, 404),
    ],
)
def test_in_debug_it_is_open_to_this_machine(
    peer: str, host: str, headers: dict[str, str], status: int, tmp_path: Path
) -> None:
    with shop(tmp_path, DEBUG=True) as made:
        client = made.client(peer)
        for path in ("/", "/jobs", "/queues"):
            response = client.get(PREFIX + path, headers={"Host": host, **headers})
            assert response.status_code == status


def test_a_proxys_headers_do_not_make_a_visitor_local(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True) as made:
        made.app.wsgi_app = ProxyFix(made.app.wsgi_app)  # type: ignore[method-assign]
        headers = {"X-Forwarded-For": "127.0.0.1"}
        assert made.client("10.0.0.9").get(f"{PREFIX}/", headers=headers).status_code == 404


def test_scripts_of_other_sites_read_nothing(tmp_path: Path) -> None:
    """An app that answers all origins (CORS) would give them the page."""
    with shop(tmp_path, DEBUG=True) as made:
        client = made.client()
        fetched = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"}
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
        assert client.get(f"{PREFIX}/jobs", headers=fetched).status_code == 404
        assert client.get(f"{PREFIX}/jobs", headers=followed).status_code == 200


def test_the_function_sees_the_request_as_a_view_does(tmp_path: Path) -> None:
    """What the app's own before_request has found belongs to it, also when that came later."""

    def may_use() -> bool:
        return bool(g.user == "ada" and session.get("_fresh", True))

    with shop(tmp_path, access=may_use, SECRET_KEY="k") as made:
        made.app.before_request(lambda: setattr(g, "user", "ada"))
        assert made.client("10.0.0.9").get(f"{PREFIX}/").status_code == 200


def test_read_only_access_looks_and_does_nothing(tmp_path: Path) -> None:
    with shop(tmp_path, access=lambda: "read", SECRET_KEY="k") as made:
        job = made.run(-1)
        client = made.client()
        for path in ("/", "/jobs", f"/jobs/{job.id}", "/queues", "/schedules", "/workers"):
            page = client.get(PREFIX + path)
            assert page.status_code == 200
            assert b'method="post"' not in page.data
        for path in (f"/jobs/{job.id}", "/queues", "/schedules", "/workers", "/jobs", "/"):
            for action in ("retry", "cancel", "force", "pause", "run", "disable", "stop"):
                form = {"action": action, "name": "billing"}
                assert client.post(PREFIX + path, data=form).status_code == 403
        with made.app.app_context():
            assert job.refresh().status is JobStatus.FAILED
            assert all(queue.paused_at is None for queue in made.engine.queues())


def test_access_is_asked_again_for_each_action(tmp_path: Path) -> None:
    answers: list[Any] = [True]
    with shop(tmp_path, access=lambda: answers[0]) as made:
        job = made.run(-1)
        client = made.client()
        tokens = fields_of(client, "/queues")
        for answer, status in (("read", 403), (False, 404), (True, 303)):
            answers[0] = answer
            form = {**tokens, "action": "pause", "name": "billing"}
            assert client.post(f"{PREFIX}/queues", data=form).status_code == status
        assert job.status is JobStatus.FAILED


def test_an_action_needs_the_token_of_its_visitor(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True) as made:
        job = made.run(-1)
        mine, other = made.client(), made.client()
        token = fields_of(mine, f"/jobs/{job.id}")
        foreign = fields_of(other, f"/jobs/{job.id}")
        path = f"{PREFIX}/jobs/{job.id}"
        for form in ({}, foreign, dict.fromkeys(token, ""), dict.fromkeys(token, "x" * 40)):
            assert mine.post(path, data={**form, "action": "retry"}).status_code == 403
        form = {**token, "action": "retry"}
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
            assert mine.post(path, data=form, headers=headers).status_code == 403
        assert made.client().post(path, data=form).status_code == 403  # without the cookie
        with made.app.app_context():
            assert job.refresh().status is JobStatus.FAILED
        assert mine.post(path, data=form, headers={"Origin": "http://localhost"}).status_code == 303
        with made.app.app_context():
            assert job.refresh().status is JobStatus.READY


def test_and_that_of_flask_wtf_where_the_app_has_it(tmp_path: Path) -> None:
    with shop(tmp_path, DEBUG=True, SECRET_KEY="k") as made:
        CSRFProtect(made.app)
        job = made.run(-1)
        client = made.client()
        tokens = fields_of(client, f"/jobs/{job.id}")
        assert tokens.keys() == {"offload_token", "csrf_token"}
        path = f"{PREFIX}/jobs/{job.id}"
        form = {"offload_token": tokens["offload_token"], "action": "retry"}
        assert client.post(path, data=form).status_code == 400
        assert client.post(path, data={**form, **tokens}).status_code == 303


def test_an_action_is_logged_and_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[dict[str, Any]] = []

    def receive(sender: Flask, **what: Any) -> None:
        seen.append(what)

    with shop(tmp_path, DEBUG=True) as made, caplog.at_level("INFO", "flask_offload"):
        job = made.run(-1)
        with signals.action.connected_to(receive, made.app):
            act(made.client(), f"/jobs/{job.id}", action="retry")
            act(made.client(), "/queues", action="pause", name="billing")
        lines = [r for r in caplog.records if getattr(r, "action", "") == "dashboard_action"]
    assert seen == [
        {"who": "127.0.0.1", "what": "retry", "jobs": [job.id]},
        {"who": "127.0.0.1", "what": "pause", "jobs": "queue=billing"},
    ]
    assert [line.getMessage() for line in lines] == [
        f"dashboard: retry by 127.0.0.1: {job.id}",
        "dashboard: pause by 127.0.0.1: queue=billing",
    ]
