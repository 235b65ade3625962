"""The app of the scenarios about transactions: a sign-up is a row and two jobs, or nothing."""

from __future__ import annotations

import ctypes
import os
import random
import time
from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_offload import Offload, current_job
from torture.event_log import note


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
offload = Offload()
TRIES = 20
"""How often a request tries its transaction at most."""


class Signup(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(db.String(50), unique=True)
    seats: Mapped[int] = mapped_column(default=0)


@offload.task
def welcome(name: str, number: int) -> None:
    """One of the two jobs of a sign-up."""
    note("ran", current_job.id, name, number)


def create_app(**config: Any) -> Flask:
    """Configured by the environment, where a process of the scenarios has its settings."""
    app = Flask("torture.signup", instance_path=os.getcwd())
    app.config.from_prefixed_env()
    app.config.setdefault("SQLALCHEMY_ENGINE_OPTIONS", {"pool_pre_ping": True})
    app.config.update(config)
    db.init_app(app)
    offload.init_app(app, db=db)
    app.add_url_rule("/", "home", lambda: str(os.getpid()))
    app.add_url_rule("/calls", "calls", lambda: str(_shim().kill_shim_count()))
    app.add_url_rule("/signup/<name>", "signup", sign_up, methods=["POST"])
    app.add_url_rule("/retrying/<name>", "retrying", sign_up_with_retries, methods=["POST"])
    return app


def sign_up(name: str) -> tuple[str, int]:
    """All that a transaction may contain. A name with "r" at its beginning is rolled back."""
    if "X-Kill-At" in request.headers:
        number, after = request.headers["X-Kill-At"].split()
        _shim().kill_shim_arm(int(number), int(after))
    db.session.add(Signup(name=name))
    db.session.flush()
    welcome.enqueue(name, 1)
    with db.session.begin_nested() as savepoint:
        db.session.add(Signup(name=f"lost-{name}"))
        welcome.enqueue(f"lost-{name}", 1)
        savepoint.rollback()
    db.session.execute(db.update(Signup).where(Signup.name == name).values(seats=1))
    welcome.enqueue(name, 2)
    if name.startswith("r"):
        db.session.rollback()
        return "rolled back", 409
    try:
        db.session.commit()
    except DBAPIError as error:
        db.session.rollback()
        return f"perhaps committed: {error.orig}", 503
    return "committed", 200


def sign_up_with_retries(name: str) -> tuple[str, int]:
    """Two rows that others lock in another order, in a transaction that is tried again."""
    chance = random.Random(name)
    first, second = chance.sample(range(1, 4), 2)
    is_serializable = chance.random() < 0.5 and db.engine.dialect.name != "sqlite"
    for _ in range(TRIES):
        try:
            if is_serializable:
                db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                db.session.scalar(text("SELECT sum(seats) FROM signup"))
            else:
                db.session.scalar(text("SELECT count(*) FROM signup"))
            _take_seat(first)
            welcome.enqueue(name, 1)
            time.sleep(chance.uniform(0, 0.01))  # so that others come in between
            _take_seat(second)
            db.session.add(Signup(name=name))
            db.session.flush()
            welcome.enqueue(name, 2)
            db.session.commit()
        except DBAPIError as error:
            db.session.rollback()
            note("retried", _reason(error))
            time.sleep(chance.uniform(0, 0.02))
        else:
            return "committed", 200
    return "given up", 409


def _take_seat(number: int) -> None:
    db.session.execute(db.update(Signup).where(Signup.id == number).values(seats=Signup.seats + 1))


def _reason(error: DBAPIError) -> str:
    found: Any = error.orig
    code = getattr(found, "sqlstate", None) or getattr(found, "sqlite_errorname", None)
    return str(code or found.args[0]).replace(" ", "_")


def _shim() -> Any:
    return ctypes.CDLL(None)
