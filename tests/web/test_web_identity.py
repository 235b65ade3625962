"""Nothing that belongs to one client reaches another: keys, replies, users, buttons, tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g, request, session
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user, login_user
from werkzeug.test import TestResponse

from flask_offload import Job, Offload, OptionError
from flask_offload.testing import drain

HEADERS = {"Prefer": "respond-async, wait=1", "Idempotency-Key": "statement-2026"}


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str, kind: str = "person") -> None:
        self.id = name
        self.kind = kind


class Site:
    """A bank whose statements are written in jobs; `denied`: clients that authorize refuses."""

    def __init__(self, folder: Path) -> None:
        self.app = app = Flask(__name__)
        app.testing = True
        app.secret_key = "x"
        app.config.update(OFFLOAD_SQLITE_PATH=folder / "jobs.sqlite3", OFFLOAD_SPOT=False)
        self.offload = offload = Offload(app)
        self.asked: list[str] = []
        self.denied: set[str] = set()
        manager = LoginManager(app)
        manager.user_loader(lambda name: User(name))
        manager.request_loader(
            lambda request: (
                User(request.headers["X-Key"], "api client") if "X-Key" in request.headers else None
            )
        )

        @app.post("/login/<name>")
        def login(name: str) -> str:
            login_user(User(name))
            return name

        @app.post("/mark/<name>")
        def mark(name: str) -> str:
            session["who"] = name
            return name

        @app.before_request
        def tenant() -> None:
            g.tenant = request.headers.get("X-Tenant")

        @offload.carry("tenant")
        def save() -> Any:
            return g.get("tenant")

        @app.post("/statement")
        @offload.respond_async(headers=["X-Account"])
        def statement() -> str:
            name = current_user.id if current_user.is_authenticated else "no user"
            kind = current_user.kind if current_user.is_authenticated else "-"
            return f"statement of {kind} {name}"

        @offload.task(name="who")
        def who() -> str:
            if current_user.is_anonymous:
                return "- anonymous"
            return f"{current_user.kind} {current_user.id}"

        @app.post("/who")
        def enqueue() -> str:
            return who.enqueue().id

        @offload.authorize
        def may_see(job: Job) -> bool:
            self.asked.append(job.id)
            return request.headers.get("X-Me", "") not in self.denied

    def client(self, name: str | None = None) -> FlaskClient:
        client = self.app.test_client()
        if name is not None:
            client.post(f"/login/{name}")
        return client

    def ask(self, client: FlaskClient, **headers: str) -> TestResponse:
        """Send the request; its job runs at once, and it is sent again for the answer."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        everything = {**HEADERS, **extra}
        client.post("/statement", headers={**everything, "Prefer": "respond-async"})
        drain(self.app)
        return client.post("/statement", headers=everything)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    with made.app.app_context():
        made.offload.engine.close()


def test_the_same_client_gets_its_own_reply_again(site: Site) -> None:
    alice = site.client("alice")
    assert site.ask(alice).text == "statement of person alice"
    assert site.ask(alice, X_Request_ID="another").text == "statement of person alice"


def test_another_user_gets_a_reply_of_their_own(site: Site) -> None:
    assert site.ask(site.client("alice")).text == "statement of person alice"
    assert site.ask(site.client("bob")).text == "statement of person bob"
    assert site.ask(site.client()).text == "statement of - no user"


@pytest.mark.parametrize(
    "other",
    [
        {"X_Tenant": "b"},
        {"X_Account": "2"},
        {"Authorization": "Basic Yjpi"},
        {"Host": "other.example"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_what_distinguishes_clients_makes_another_job(site: Site, other: dict[str, str]) -> None:
    first = site.ask(site.client())
    second = site.ask(site.client(), **other)
    assert first.status_code == second.status_code == 200
    with site.app.app_context():
        assert site.offload.engine.count()["SUCCESSFUL"] == 2  # type: ignore[index]


def test_a_session_of_its_own_makes_another_job(site: Site) -> None:
    one, other = site.client(), site.client()
    one.post("/mark/one")
    other.post("/mark/other")
    site.ask(one)
    site.ask(other)
    with site.app.app_context():
        assert site.offload.engine.count()["SUCCESSFUL"] == 2  # type: ignore[index]


def test_authorize_is_asked_when_the_reply_comes_directly(site: Site) -> None:
    client = site.client("alice")
    assert site.ask(client).text == "statement of person alice"
    asked = len(site.asked)
    site.denied = {"stranger"}
    refused = client.post("/statement", headers={**HEADERS, "X-Me": "stranger"})
    assert len(site.asked) > asked
    assert refused.status_code == 422
    assert "alice" not in refused.text


def test_a_unique_view_is_unique_for_its_client(site: Site) -> None:
    @site.app.post("/balance")
    @site.offload.respond_async(unique=True, name="balance")
    def balance() -> str:
        return f"balance of {current_user.id}"

    @site.app.post("/rates")
    @site.offload.respond_async(unique=lambda snapshot, values: "rates", name="rates")
    def rates() -> str:
        return "the same for everybody"

    clients = [site.client("erin"), site.client("frank")]

    def ids(path: str) -> list[str]:
        headers = {"Prefer": "respond-async"}
        sent = [client.post(path, headers=headers) for client in (*clients, clients[0])]
        return [response.json["id"] for response in sent]  # type: ignore[index]

    erin, frank, again = ids("/balance")
    assert erin == again
    assert erin != frank
    assert len(set(ids("/rates"))) == 1
    done = {job.id: job for job in drain(site.app)}
    assert done[frank].return_value.body == "balance of frank"


def test_a_user_of_a_request_loader_is_not_taken_for_another(site: Site) -> None:
    response = site.client().post("/statement", headers={**HEADERS, "X-Key": "7"})
    assert response.text == "statement of api client 7", "it runs in the request"
    assert drain(site.app) == []


def test_current_user_works_in_a_plain_task(site: Site) -> None:
    site.client("carol").post("/who")
    (job,) = drain(site.app)
    assert job.return_value == "person carol"


@pytest.mark.parametrize("headers", [{"X-Key": "7"}, {}], ids=["request_loader", "anonymous"])
def test_without_a_session_s_user_a_task_has_an_anonymous_one(
    site: Site, headers: dict[str, str]
) -> None:
    site.client().post("/who", headers=headers)
    (job,) = drain(site.app)
    assert job.return_value == "- anonymous"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://in.front.example"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({}, 303),
    ],
)
def test_buttons_of_other_sites_do_nothing(
    site: Site, headers: dict[str, str], status: int
) -> None:
    job_id = site.client("dan").post("/who").text
    response = site.client().post(f"/offload/jobs/{job_id}/cancel", headers=headers)
    assert response.status_code == status


# --- declarations --------------------------------------------------------------------------------


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def charge(order: int) -> str:
    return f"charged {order}"


def refund(order: int) -> str:
    return f"refunded {order}"


def test_two_functions_in_one_wrapper_are_two_tasks() -> None:
    offload = Offload()
    offload.task(timed(charge))
    offload.task(timed(charge))  # the same declaration, run again
    with pytest.raises(OptionError, match="two tasks are named"):
        offload.task(timed(refund))


def test_tasks_made_in_a_loop_are_distinguished() -> None:
    offload = Offload()

    def make(table: str) -> None:
        @offload.task
        def sync() -> str:
            return table

    make("users")
    make("users")
    with pytest.raises(OptionError, match="two tasks are named"):
        make("orders")


def test_methods_of_two_objects_and_defaults_are_distinguished() -> None:
    class Sender:
        def send(self) -> None: ...

    offload = Offload()
    offload.task(name="send")(Sender().send)
    with pytest.raises(OptionError, match="two tasks are named"):
        offload.task(name="send")(Sender().send)
    offload.task(name="late")(lambda number=1: number)
    number = 2
    with pytest.raises(OptionError, match="two tasks are named"):
        offload.task(name="late")(lambda number=number: number)


def test_objects_in_closures_are_distinguished_unless_they_are_another_app_s() -> None:
    class Source:
        pass

    offload = Offload()

    def make(source: Source) -> None:
        @offload.task
        def read() -> str:
            return str(source)

    make(Source())
    with pytest.raises(OptionError, match="two tasks are named"):
        make(Source())


@pytest.mark.parametrize("first", ["init_app", "tasks"])
def test_a_factory_may_run_for_a_second_app(tmp_path: Path, first: str) -> None:
    offload = Offload()

    def create_app(number: int) -> Flask:
        app = Flask(__name__)
        app.config.update(
            TESTING=True, OFFLOAD_SPOT=False, OFFLOAD_SQLITE_PATH=tmp_path / f"{number}.sqlite3"
        )
        if first == "init_app":
            offload.init_app(app)

        @offload.task
        def nested() -> str:
            return app.name

        @functools.wraps(nested)
        def same() -> str:
            return nested()

        if first == "tasks":
            offload.init_app(app)
        return app

    kept = [create_app(number) for number in range(2)]
    assert len(offload.tasks) == 1
    assert len(offload.states) == len(kept)


def test_a_second_app_may_have_classes_and_objects_of_its_own(tmp_path: Path) -> None:
    offload = Offload()

    def create_app(number: int) -> None:
        class Model:
            def clean(self) -> None: ...

        @offload.task
        def count() -> str:
            return Model.__name__

        offload.task(name="clean")(Model().clean)
        app = Flask(__name__)
        app.config.update(
            TESTING=True, OFFLOAD_SPOT=False, OFFLOAD_SQLITE_PATH=tmp_path / f"{number}.sqlite3"
        )
        offload.init_app(app)

    create_app(1)
    create_app(2)
    assert len(offload.tasks) == 2


def test_two_schedules_of_one_name_are_refused() -> None:
    offload = Offload()

    @offload.task
    def report() -> None: ...

    offload.every("0 9 * * *")(report)
    offload.every("0 9 * * *")(report)
    with pytest.raises(OptionError, match=r"two schedules are named .* \(name=…\)"):
        offload.every("0 17 * * *")(report)
    offload.every("0 17 * * *", name="evening")(report)
    assert len(offload.schedules) == 2

    @offload.task
    def other() -> None: ...

    with pytest.raises(OptionError, match="two schedules are named"):
        offload.every("0 17 * * *", name="evening")(other)
