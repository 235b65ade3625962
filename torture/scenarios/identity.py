"""What belongs to one client, asked for by another, in every way that an answer has out."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from flask import Flask, g, request, session
from flask.testing import FlaskClient
from flask_login import LoginManager, UserMixin, current_user, login_user

from flask_offload import Job, Offload, OptionError
from flask_offload.testing import drain

from ..scenario import Run, scenario

USERS = ("alice", "bob", "carol", None)


class Person(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


class Who(NamedTuple):
    """A client: what a view may tell it by."""

    user: str | None
    tenant: str
    account: str
    host: str
    root: str
    mark: str


@scenario(
    "T26",
    "clients that differ in user, session, tenant, header, host or prefix send the same requests"
    " with the same keys, and ask for each other's jobs; functions that share their code are"
    " declared",
    in_ci=True,
)
def identity(run: Run) -> None:
    logging.getLogger("flask_offload").setLevel(logging.ERROR)  # of cookies that views set
    bank = Bank(run.new_folder())
    requests = run.size(60, 1500)
    wrong: list[str] = []
    strangers: list[str] = []
    for _ in range(requests):
        who, other = bank.anyone(run), bank.anyone(run)
        key = f"key-{run.chance.randrange(3)}"
        wrong += bank.ask(who, key)
        if other != who:
            strangers += bank.spy(who, other, key)
    run.figure("requests", f"{bank.sent:,} by {len(bank.clients)} clients")
    run.gate("each client gets its own answer", wrong[:3] or "all", not wrong)
    run.gate("a stranger is shown no job", strangers[:3] or "none", not strangers)
    shared = declared_as_one()
    run.gate("functions that share their code are not taken for one task", shared, not shared)
    bank.close()


class Bank:
    """An app whose answers say for whom they were written."""

    def __init__(self, folder: Path) -> None:
        self.app = app = Flask("bank", instance_path=str(folder))
        app.testing, app.secret_key = True, "x"
        app.config.update(OFFLOAD_SQLITE_PATH=folder / "jobs.sqlite3", OFFLOAD_POLL_LIMIT=0)
        self.offload = offload = Offload(app)
        self.clients: dict[tuple[str | None, str], FlaskClient] = {}
        self.sent = 0
        LoginManager(app).user_loader(Person)

        @app.post("/login")
        def login() -> str:
            if user := request.args.get("user"):
                login_user(Person(user))
            session["mark"] = request.args["mark"]
            return ""

        @app.before_request
        def tenant() -> None:
            g.tenant = request.headers.get("X-Tenant")

        @offload.carry("tenant")
        def save() -> Any:
            return g.get("tenant")

        @save.restore
        def restore(value: Any) -> None:
            g.tenant = value

        def answer() -> dict[str, Any]:
            return Who(
                current_user.id if current_user.is_authenticated else None,
                g.tenant,
                request.headers.get("X-Account", ""),
                request.host,
                request.script_root,
                session.get("mark", ""),
            )._asdict()

        @app.post("/statement")
        @offload.respond_async(
            headers=["X-Account"], session=["mark"], owner=lambda: str(current_user.get_id())
        )
        def statement() -> dict[str, Any]:
            return answer()

        @offload.task(expose="result")
        def tell() -> str | None:
            return current_user.id if current_user.is_authenticated else None

        @app.post("/tell")
        def enqueue() -> str:
            return tell.using(owner=str(current_user.get_id())).enqueue().id

        @offload.authorize
        def may_see(job: Job) -> bool:
            return bool(job.owner == str(current_user.get_id()))

    def anyone(self, run: Run) -> Who:
        pick = run.chance.choice
        return Who(
            pick(USERS),
            *(
                pick("ab"),
                pick("12"),
                pick(("one.test", "two.test")),
                pick(("", "/sub")),
                pick("xy"),
            ),
        )

    def send(self, who: Who, method: str, path: str, **headers: str) -> Any:
        """The response to a request of this client."""
        client = self.clients.get((who.user, who.mark))
        if client is None:
            client = self.clients[who.user, who.mark] = self.app.test_client()
            for host in ("one.test", "two.test"):
                query = {"mark": who.mark, **({"user": who.user} if who.user else {})}
                for root in ("", "/sub"):
                    client.post(
                        "/login", query_string=query, base_url=f"http://{host}{root}"
                    ).close()
        self.sent += 1
        return client.open(
            path,
            method=method,
            base_url=f"http://{who.host}{who.root}",
            headers={"X-Tenant": who.tenant, "X-Account": who.account, **headers},
        )

    def ask(self, who: Who, key: str) -> list[str]:
        """What it gets that is not its own."""
        keyed = {"Idempotency-Key": key}
        accepted = self.send(who, "POST", "/statement", Prefer="respond-async", **keyed)
        told = self.send(who, "POST", "/tell").text
        drain(self.app)
        texts = [self.send(who, "POST", "/statement", Prefer="respond-async, wait=2", **keyed).text]
        self.location = ""  # none if the answer of an earlier request comes at once
        if "Location" in accepted.headers:
            self.location = accepted.headers["Location"].partition(f"{who.host}{who.root}")[2]
            texts.append(self.send(who, "GET", self.location + "/result").text)
        with self.app.app_context():
            user = self.offload.get_job(told).return_value
        mine = who._asdict()
        found = [text for text in texts if json.loads(text) != mine]
        return [f"{text} for {mine}" for text in found] + (
            [f"current_user is {user} in a task of {who.user}"] if user != who.user else []
        )

    def spy(self, who: Who, other: Who, key: str) -> list[str]:
        """What another client is shown of the job of this one."""
        if other.user == who.user:
            return []
        ends = ("", "/result", "?status") if self.location else ()
        seen = [self.send(other, "GET", self.location + end) for end in ends]
        direct = self.send(other, "POST", "/statement", **{"Idempotency-Key": key})
        leaks = [f"{item.status}: {item.text[:80]}" for item in seen if item.status_code != 404]
        if direct.json != other._asdict():
            leaks.append(direct.text[:80])
        return leaks

    def close(self) -> None:
        with self.app.app_context():
            self.offload.engine.close()


def declared_as_one() -> list[str]:
    """The kinds of functions that were accepted as two declarations of one task."""
    accepted = []
    for kind, make in KINDS.items():
        offload = Offload()
        try:
            for value in ("first", "second"):
                offload.task(name="same")(make(value))
        except OptionError:
            continue
        accepted.append(kind)
    offload = Offload()
    try:
        for hour in (9, 17):
            offload.every(timedelta(hours=hour))(offload.task(name="report")(_report))
    except OptionError:
        return accepted
    return [*accepted, "schedules"]


def _report() -> None: ...


class _Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    def sell(self) -> str:
        return self.name

    __call__ = sell


def _closure(value: str) -> Callable[[], str]:
    return lambda: value


def _wrapped(value: str) -> Callable[..., Any]:
    inner = _closure(value)

    def wrapper(*args: Any) -> Any:
        return inner(*args)

    return wrapper


def _default(value: str) -> Callable[[], str]:
    def function(given: str = value) -> str:
        return given

    return function


KINDS: dict[str, Callable[[str], Callable[..., Any]]] = {
    "closures": _closure,
    "wrappers": _wrapped,
    "functools.wraps": lambda value: functools.wraps(_closure(value))(_wrapped(value)),
    "bound methods": lambda value: _Shop(value).sell,
    "callable objects": _Shop,
    "partials": lambda value: functools.partial(print, value),
    "default values": _default,
}
