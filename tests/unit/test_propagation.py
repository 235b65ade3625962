"""What a request gives to its jobs also goes to the jobs that those enqueue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, url_for
from flask_babel import Babel, get_locale
from flask_login import LoginManager, UserMixin, current_user, login_user

from flask_offload import Offload
from flask_offload.testing import drain


class Person(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def test_a_job_of_a_job_has_the_context_of_the_request(tmp_path: Path) -> None:
    app = Flask("shop", instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="x", OFFLOAD_WORKER="off")
    Babel(app, locale_selector=lambda: "de")
    LoginManager(app).user_loader(Person)
    offload = Offload(app)
    app.add_url_rule("/home", "home", lambda: "")

    def context() -> list[Any]:
        return [current_user.get_id(), str(get_locale()), url_for("home", _external=True)]

    @offload.task(name="inner")
    def inner() -> list[Any]:
        return context()

    @offload.task(name="outer")
    def outer() -> list[Any]:
        inner.enqueue()
        return context()

    @offload.task(name="alone")
    def alone() -> Any:
        return current_user.get_id()

    @app.post("/order")
    def order() -> str:
        login_user(Person("ann"))
        return outer.enqueue().id

    app.test_client().post("/order", base_url="https://shop.example/")
    jobs = drain(app)
    assert [job.return_value for job in jobs] == [["ann", "de", "https://shop.example/home"]] * 2
    with app.app_context():
        alone.enqueue()
    (job,) = drain(app)
    assert job.return_value is None
    with app.app_context():
        offload.engine.close()
