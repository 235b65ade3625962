"""A sign-up: a user's row, and a welcome that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_offload import Job, Offload
from flask_offload.engines.base import JobQuery
from flask_offload.transactions.relay import Relay


class Signup:
    """One app with its own models, inside an app context."""

    def __init__(self, url: str, folder: Path, *, has_db: bool = True, **config: Any) -> None:
        class Base(DeclarativeBase):
            pass

        self.db = db = SQLAlchemy(model_class=Base)

        class User(db.Model):  # type: ignore[name-defined, misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column(db.String(50), unique=True)

        self.User = User
        self.app = app = Flask("signup")
        app.config.update(
            TESTING=True,
            SQLALCHEMY_DATABASE_URI=url,
            OFFLOAD_SQLITE_PATH=str(folder / "jobs.sqlite3"),
            OFFLOAD_WORKER="off",
        )
        app.config.update(config)
        self.offload = Offload()
        db.init_app(app)
        self.offload.init_app(app, db=db if has_db else None)

        @self.offload.task(name="welcome")
        def welcome(name: str) -> str:
            return f"welcome, {name}"

        @self.offload.task(name="once", unique=True)
        def once(name: str) -> None: ...

        self.welcome, self.once = welcome, once
        self.state = self.offload.state_of(app)

    def add(self, name: str) -> Any:
        """A new user in the session, not flushed."""
        user = self.User(name=name)
        self.db.session.add(user)
        return user

    def jobs(self) -> list[Job]:
        """All jobs of the engine, oldest first."""
        self.settle()
        records = self.state.engine.list(JobQuery(limit=1000))
        return [self.state.job(record) for record in reversed(records)]

    def settle(self) -> None:
        """Wait until this process has relayed what it committed."""
        relay = self.relay
        assert relay is None or relay.wait(20.0)

    @property
    def relay(self) -> Relay | None:
        """The relay of its outbox, if it has one."""
        transactions = self.state.transactions
        return None if transactions is None else transactions._relay


@contextmanager
def signup(url: str, folder: Path, **options: Any) -> Iterator[Signup]:
    """The tables are there."""
    site = Signup(url, folder, **options)
    with site.app.app_context():
        site.db.create_all()
        try:
            yield site
        finally:
            site.db.session.remove()
            site.settle()
            if site.relay is not None:
                site.relay.close()
            site.db.engine.dispose()
            site.state.engine.close()
