"""The addresses of a job in apps that route by host, by subdomain, and behind a proxy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, redirect, render_template_string, url_for
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from flask_offload import Offload
from flask_offload.testing import drain

ASYNC = {"Prefer": "respond-async"}
HTML = {"Accept": "text/html"}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Makes an app with a task, a view of it at /go, and a moved view at /view/<to>."""
    made: list[Offload] = []

    def make(where: dict[str, str] | None = None, **options: Any) -> Flask:
        offload = Offload()
        made.append(offload)
        app = Flask(__name__, **options)
        app.config.update(
            TESTING=True,
            OFFLOAD_SPOT=False,
            OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3",
            SERVER_NAME="shop.example" if options.get("subdomain_matching") else None,
        )
        offload.init_app(app)

        @offload.task
        def work() -> None: ...

        def go(**_: str) -> Response:
            return offload.accepted(work.enqueue())

        def page(**_: str) -> str:
            return render_template_string("{{ offload_progress(job) }}", job=work.enqueue())

        def view(to: str, **_: str) -> Any:
            return redirect({"query": "?page=2", "up": "../up", "here": "./here"}[to])

        routed = where or {}
        app.add_url_rule("/go", view_func=go, **routed)  # type: ignore[arg-type]
        app.add_url_rule("/page", view_func=page, **routed)  # type: ignore[arg-type]
        moved = offload.respond_async(view)
        app.add_url_rule("/a b/view/<to>", view_func=moved, **routed)  # type: ignore[arg-type]
        return app

    yield make
    for offload in made:
        for state in offload.states.values():
            state.engine.close()


HOSTS = [
    pytest.param({"host_matching": True, "static_host": "x.example"}, {"host": "<h>"}, id="host"),
    pytest.param({"subdomain_matching": True}, {"subdomain": "<s>"}, id="subdomain"),
    pytest.param({"subdomain_matching": True}, {}, id="no subdomain"),
    pytest.param({}, {}, id="neither"),
]


@pytest.mark.parametrize(("options", "where"), HOSTS)
def test_a_job_is_on_the_host_of_the_page_that_made_it(
    make: Callable[..., Flask], options: dict[str, Any], where: dict[str, str]
) -> None:
    app = make(where, **options)
    origin = "http://eu.shop.example" if where else "http://shop.example"
    if "host" in where:
        origin += ":8080"
    client = app.test_client()
    started = client.get("/go", base_url=origin)
    url = started.headers["Location"]
    assert url.startswith(f"{origin}/offload/jobs/")
    seen = client.get(url)
    assert seen.status_code == 200
    for link in seen.json["links"].values():  # type: ignore[index]
        assert link.startswith("/offload/jobs/")
    assert client.get(url, headers=HTML).status_code == 200
    assert client.post(f"{url}/cancel").headers["Location"] == seen.json["links"]["self"]  # type: ignore[index]
    assert 'href="/offload/jobs/' in client.get("/page", base_url=origin).text
    assert client.get("/offload/openapi.json", base_url=origin).status_code == 200
    assert client.get("/offload/jobs/unknown", base_url=origin).status_code == 404


@pytest.mark.parametrize(("options", "where"), HOSTS)
def test_a_moved_view_works_on_each_host(
    make: Callable[..., Flask], options: dict[str, Any], where: dict[str, str]
) -> None:
    app = make(where, **options)
    origin = "http://eu.shop.example" if where else "http://shop.example"
    client = app.test_client()
    url = client.get("/a b/view/up", base_url=origin, headers=ASYNC).headers["Location"]
    drain(app)
    result = client.get(url).headers["Location"]
    assert client.get(result, base_url=origin).headers["Location"] == "/a%20b/up"


def test_an_unusable_host_gets_the_path(make: Callable[..., Flask]) -> None:
    client = make().test_client()
    for host in ("evil<>", "evil%40host", "a b"):
        response = client.get("/go", headers={"Host": host})
        assert response.status_code == 202
        assert response.headers["Location"].startswith("/offload/jobs/")


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "front.example",
    "X-Forwarded-Prefix": "/shop",
}


def mounted(app: Flask, environ: dict[str, Any], start_response: Any) -> Any:
    """As a server does it that serves the app below /shop."""
    return app({**environ, "SCRIPT_NAME": "/shop"}, start_response)


@pytest.fixture(params=["ProxyFix", "SCRIPT_NAME", "APPLICATION_ROOT"])
def prefixed(request: pytest.FixtureRequest, make: Callable[..., Flask]) -> tuple[Any, str]:
    """A client of the app below /shop, as `get(path)`, and the origin."""
    app = make()
    headers, origin, options = {}, "http://localhost", {}
    if request.param == "ProxyFix":
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1)  # type: ignore[method-assign]
        headers, origin = FORWARDED, "https://front.example"
    elif request.param == "SCRIPT_NAME":
        app.wsgi_app = functools.partial(mounted, app.wsgi_app)  # type: ignore[method-assign,arg-type]
    else:
        app.config["APPLICATION_ROOT"] = "/shop"  # the test client sets SCRIPT_NAME from it
        options = {"base_url": "http://localhost/shop"}
    client: FlaskClient = app.test_client()

    def get(path: str, **more: str) -> TestResponse:
        response = client.get(path, headers={**headers, **more}, **options)
        drain(app)
        return response

    return get, origin


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("here", "/shop/a%20b/view/here"),
        ("up", "/shop/a%20b/up"),
        ("query", "/shop/a%20b/view/query?page=2"),
    ],
)
def test_relative_redirects_keep_the_prefix(
    prefixed: tuple[Any, str], to: str, location: str
) -> None:
    get, origin = prefixed
    url = get(f"/a b/view/{to}", **ASYNC).headers["Location"]
    assert url.startswith(f"{origin}/shop/offload/jobs/")
    path = url.removeprefix(f"{origin}/shop")
    ended = get(path)
    assert (ended.status_code, ended.headers["Location"]) == (302, f"/shop{path}/result")
    assert get(f"{path}/result").headers["Location"] == location


@pytest.fixture
def linking(tmp_path: Path) -> Iterator[Flask]:
    """An app whose task returns an external link, and enqueues itself once more if asked."""
    offload = Offload()
    app = Flask(__name__)
    app.config.update(
        TESTING=True, OFFLOAD_SPOT=False, OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3"
    )
    offload.init_app(app)

    @offload.task
    def link(again: bool) -> str:
        if again:
            link.enqueue(False)
        return url_for("go", page=2, _external=True)

    @app.get("/go")
    def go() -> Response:
        return offload.accepted(link.enqueue(True))

    @app.get("/view")
    @offload.respond_async
    def view() -> str:
        link.enqueue(False)
        return url_for("go", page=2, _external=True)

    @app.cli.command()
    def nightly() -> None:
        link.enqueue(False)

    yield app
    offload.state_of(app).engine.close()


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://front.example",
        "http://127.0.0.1:8080/shop",
        "https://x.example/ä b",
    ],
)
@pytest.mark.parametrize("path", ["/go", "/view"])
def test_links_in_a_job_are_as_in_its_request(linking: Flask, origin: str, path: str) -> None:
    with linking.test_request_context(base_url=origin):
        expected = url_for("go", page=2, _external=True)
    assert linking.test_client().get(path, base_url=origin, headers=ASYNC).status_code == 202
    returned = [getattr(job.return_value, "body", job.return_value) for job in drain(linking)]
    assert returned == [expected, expected]


def test_links_in_a_job_without_a_request_need_a_server_name(linking: Flask) -> None:
    runner = linking.test_cli_runner()
    runner.invoke(args=["nightly"])
    (failed,) = drain(linking)
    assert failed.error is not None
    assert "SERVER_NAME" in failed.error.message
    linking.config.update(SERVER_NAME="shop.example", PREFERRED_URL_SCHEME="https")
    runner.invoke(args=["nightly"])
    (job,) = drain(linking)
    assert job.return_value == "https://shop.example/go?page=2"
