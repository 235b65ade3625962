"""A small shop with a dashboard, in this process and without a worker: its jobs run in the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from flask_offload import Job, Offload
from flask_offload.engines.base import Engine
from flask_offload.testing import drain

PREFIX = "/offload/dashboard"
ADDRESSES = (
    *("", "/", "/jobs", "/failures", "/queues", "/schedules", "/workers", "/routes", "/bulk"),
    *("/jobs/", "/jobs/unknown", "/assets/none/dashboard.css", "/assets/none/dashboard.js"),
)
"""Every address of the dashboard below PREFIX, but a job's own."""
METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    *("PROPFIND", "PURGE", "MADE-UP"),
)


class Shop:
    """access: what the function of `@offload.dashboard_access` answers; absent: there is none."""

    def __init__(self, folder: Path, *, access: Any = None, **config: Any) -> None:
        self.app = Flask("shop")
        path = str(folder / "jobs.sqlite3")
        settings = {"OFFLOAD_SQLITE_PATH": path, "OFFLOAD_WORKER": "off", "OFFLOAD_SPOT": False}
        self.app.config.update({**settings, **config})
        self.offload = Offload()
        if access is not None:
            self.offload.dashboard_access(access)

        @self.offload.task(queue_name="billing")
        def pay(order: int, card_token: str = "", note: str = "") -> dict[str, Any]:
            if order < 0:
                raise ValueError(f"order {order} has no address")
            return {"receipt": order, "api_key": "sk-result-9"}

        @self.offload.task(expose_args=False)
        def login(user: str) -> str:
            return f"hello {user}"

        @self.offload.every("0 3 * * *")
        def sweep() -> None: ...

        self.pay, self.login, self.sweep = pay, login, sweep
        self.offload.init_app(self.app)

    def run(self, *args: Any, task: Any = None, **kwargs: Any) -> Job:
        """Enqueue a call, and run it in this thread."""
        with self.app.app_context():
            job: Job = (task or self.pay).enqueue(*args, **kwargs)
            drain(self.app)
            return job.refresh()

    @property
    def engine(self) -> Engine:
        return self.offload.state_of(self.app).engine

    def client(self, address: str = "127.0.0.1") -> FlaskClient:
        """A browser at this address."""
        client = self.app.test_client()
        client.environ_base["REMOTE_ADDR"] = address
        return client


@contextmanager
def shop(folder: Path, **options: Any) -> Iterator[Shop]:
    """One for the block."""
    made = Shop(folder, **options)
    try:
        yield made
    finally:
        with made.app.app_context():
            made.engine.close()


def fields_of(client: FlaskClient, path: str) -> dict[str, str]:
    """The hidden fields that a page's forms have in common: the tokens."""
    html = client.get(PREFIX + path).get_data(as_text=True)
    found = re.findall(r'<input type="hidden" name="(\w*token)" value="([^"]+)"', html)
    assert found, "the page has no form with a token"
    return dict(found)


def act(client: FlaskClient, path: str, page: str | None = None, **form: str) -> Any:
    """Press a button: post its form, with the tokens of `page` (this path by default)."""
    return client.post(PREFIX + path, data={**fields_of(client, page or path), **form})
