# ruff: noqa: F811 (the fixtures are imported)
"""Everything that enqueues belongs to the transaction; several binds; Alembic; other extensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask, Response
from flask_mail import Mail, Message
from flask_sqlalchemy import SQLAlchemy as FlaskSQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import delete
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_offload import Offload
from flask_offload.testing import drain
from postgres_server import PostgresServer
from signup_app import signup
from transaction_fixtures import server  # noqa: F401


def test_accepted_and_mail(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'app.sqlite3'}"
    with signup(url, tmp_path, MAIL_DEFAULT_SENDER="a@example.com") as site:
        mail = Mail(site.app)

        @site.app.post("/<end>")
        def join(end: str) -> Response:
            site.add("ann")
            answer = site.offload.accepted(site.welcome.enqueue("ann"))
            site.offload.send_mail(Message("hello", recipients=["ann@example.com"], body="x"))
            getattr(site.db.session, end)()
            return answer

        client = site.app.test_client()
        gone = client.post("/rollback")
        assert (gone.status_code, site.jobs()) == (202, [])
        assert client.get(gone.headers["Location"]).status_code == 404
        there = client.post("/commit")
        assert client.get(there.headers["Location"]).status_code == 200
        with mail.record_messages() as sent:
            assert len(drain(site.app)) == 2
        assert [message.subject for message in sent] == ["hello"]


def test_a_view_that_responds_async(tmp_path: Path) -> None:
    with signup(f"sqlite:///{tmp_path / 'app.sqlite3'}", tmp_path) as site:
        ends: list[str] = []

        @site.app.post("/report")
        @site.offload.respond_async
        def report() -> str:
            return "done"

        @site.app.before_request
        def visit() -> None:
            site.add("visitor")

        @site.app.after_request
        def end(answer: Response) -> Response:
            getattr(site.db.session, ends.pop())()
            return answer

        client = site.app.test_client()
        for ends[:], expected in ((["rollback"], 0), (["commit"], 1)):
            answer = client.post("/report", headers={"Prefer": "respond-async"})
            assert answer.status_code == 202
            assert len(site.jobs()) == expected
            site.db.session.rollback()
            site.db.session.execute(delete(site.User))
            site.db.session.commit()


def test_of_two_binds_the_default_one_counts(tmp_path: Path) -> None:
    class Base(DeclarativeBase):
        pass

    db = FlaskSQLAlchemy(model_class=Base)

    class Here(db.Model):  # type: ignore[name-defined, misc]
        id: Mapped[int] = mapped_column(primary_key=True)

    class There(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)

    app = Flask("two", instance_path=str(tmp_path))
    app.config.update(
        TESTING=True,
        OFFLOAD_WORKER="off",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/here.sqlite3",
        SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path}/there.sqlite3"},
    )
    db.init_app(app)
    offload = Offload(app, db=db)

    @offload.task(name="work")
    def work() -> None: ...

    with app.app_context():
        db.create_all()
        for row, held in ((There, False), (Here, True)):
            for is_flushed in (False, True):
                before = sum(offload.engine.count().values())
                db.session.add(row())
                if is_flushed:
                    db.session.flush()
                work.enqueue()
                assert sum(offload.engine.count().values()) == before + (not held)
                db.session.rollback()
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
        offload.engine.close()


def test_flask_sqlalchemy_lite(tmp_path: Path) -> None:
    class Model(DeclarativeBase):
        pass

    class Row(Model):
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)

    db = Lite()
    app = Flask("lite", instance_path=str(tmp_path))
    url = f"sqlite:///{tmp_path}/lite.sqlite3"
    app.config.update(TESTING=True, OFFLOAD_WORKER="off", SQLALCHEMY_ENGINES={"default": url})
    db.init_app(app)
    offload = Offload(app, db=db, metadata=Model.metadata)

    @offload.task(name="work")
    def work() -> None: ...

    with app.app_context():
        Model.metadata.create_all(db.engine)
        for end, expected in (("rollback", 0), ("commit", 1)):
            db.session.add(Row())
            work.enqueue()
            assert sum(offload.engine.count().values()) == 0
            getattr(db.session, end)()
            assert sum(offload.engine.count().values()) == expected
        db.session.close()
        db.engine.dispose()
        offload.engine.close()


def _changes(site: Any) -> list[tuple[str, str]]:
    """What Alembic would write into a migration: an operation, and a table."""
    with site.db.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        found = compare_metadata(context, site.db.metadata)
    site.db.engine.dispose()
    return [(item[0], item[1].name) for item in found if "table" in item[0]]


def test_alembic_sees_the_outbox(tmp_path: Path) -> None:
    with signup(f"sqlite:///{tmp_path / 'app.sqlite3'}", tmp_path) as site:
        assert _changes(site) == []
        site.db.metadata.tables["offload_outbox"].drop(site.db.engine)
        assert _changes(site) == [("add_table", "offload_outbox")]


@pytest.mark.parametrize("server", ["postgres"], indirect=True, scope="module")
def test_alembic_leaves_the_tables_of_the_postgres_engine(
    server: PostgresServer, tmp_path: Path
) -> None:
    with server.database() as url:
        url = url.replace("postgresql:", "postgresql+psycopg:")
        with signup(url, tmp_path, OFFLOAD_ENGINE="postgres") as site:
            site.welcome.enqueue("ann")
            assert len(site.jobs()) == 1
            assert _changes(site) == []
