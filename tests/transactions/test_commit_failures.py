# ruff: noqa: F811 (the fixtures are imported)
"""Answers to COMMIT that get lost, locked job databases, transactions of two kinds of ways."""

from __future__ import annotations

import io
import time
from pathlib import Path

import apsw
import pytest
from sqlalchemy.exc import DBAPIError
from torture.commit_line import CommitLine
from werkzeug.datastructures import FileStorage

from flask_offload import EngineUnavailable
from flask_offload.testing import drain
from postgres_server import PostgresServer
from signup_app import signup
from transaction_fixtures import server  # noqa: F401

on_postgres = pytest.mark.parametrize("server", ["postgres"], indirect=True, scope="module")


@on_postgres
@pytest.mark.parametrize("way", ["COMMIT lost", "answer lost"])
def test_a_commit_without_an_answer_keeps_the_files_of_its_job(
    server: PostgresServer, way: str, tmp_path: Path
) -> None:
    line = CommitLine(("127.0.0.1", server.port), 1, 0.0, [way])
    try:
        with (
            server.database() as url,
            signup(
                url.replace("postgresql:", "postgresql+psycopg:").replace(
                    f":{server.port}/", f":{line.port}/"
                ),
                tmp_path,
            ) as site,
        ):

            @site.offload.task(name="size")
            def size(file: FileStorage) -> int:
                return len(file.read())

            site.add("ann")
            line.loss = 1.0
            job = size.enqueue(FileStorage(io.BytesIO(bytes(200_000)), "x.bin"))
            with pytest.raises(DBAPIError):
                site.db.session.commit()
            line.loss = 0.0
            site.db.session.rollback()
            site.db.engine.dispose()
            users = site.db.session.scalars(site.db.select(site.User.name)).all()
            site.db.session.rollback()
            assert site.relay is not None
            assert site.relay.relay(site.db.engine, before=2e9) == len(users)
            assert len(users) == (way == "answer lost")
            ran = drain(site.app)
            assert [(one.id, one.return_value) for one in ran] == [(job.id, 200_000)] * len(users)
            site.db.engine.dispose()
    finally:
        line.close()


@on_postgres
def test_the_first_use_of_postgres_when_its_commit_gets_no_answer(
    server: PostgresServer, tmp_path: Path
) -> None:
    line = CommitLine(("127.0.0.1", server.port), 1, 0.0, ["answer lost"])
    try:
        with server.database() as url:
            url = url.replace("postgresql:", "postgresql+psycopg:")
            url = url.replace(f":{server.port}/", f":{line.port}/")
            with signup(url, tmp_path, OFFLOAD_ENGINE="postgres") as site:
                site.add("ann")
                line.loss = 1.0
                with pytest.raises(EngineUnavailable, match="can't be used"):
                    site.welcome.enqueue("ann")
                line.loss = 0.0
                job = site.welcome.enqueue("ann")
                site.db.session.commit()
                assert [one.id for one in site.jobs()] == [job.id]
    finally:
        line.close()


def test_a_locked_job_database_delays_no_commit(tmp_path: Path) -> None:
    with signup(f"sqlite:///{tmp_path / 'app.sqlite3'}", tmp_path, TESTING=False) as site:
        site.add("first")
        site.welcome.enqueue("first")
        site.db.session.commit()
        assert len(site.jobs()) == 1
        lock = apsw.Connection(str(tmp_path / "jobs.sqlite3"))
        lock.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        site.add("ann")
        job = site.welcome.enqueue("ann")
        site.once.enqueue("ann")
        site.db.session.commit()
        assert job.refresh().waiting_for is None
        committed = time.monotonic()
        with pytest.raises(EngineUnavailable):
            site.welcome.enqueue("refused")  # waits as long as an enqueue may
        refused = time.monotonic()
        assert committed - began < (refused - committed) / 4
        lock.execute("ROLLBACK")
        lock.close()
        assert len(site.jobs()) == 3


def test_jobs_in_memory_and_in_the_outbox_of_one_transaction(tmp_path: Path) -> None:
    with signup(f"sqlite:///{tmp_path / 'app.sqlite3'}", tmp_path) as site:
        with site.db.engine.connect() as connection:
            session = site.db.session()
            session.get_bind = lambda *_, **__: connection  # type: ignore[method-assign]
            site.add("ann")
            jobs = [site.welcome.enqueue("in memory, as in a test")]
            site.app.testing = False
            jobs.append(site.welcome.enqueue("in the outbox"))
            site.app.testing = True
            session.commit()
            site.db.session.remove()
        assert {job.id for job in site.jobs()} == {job.id for job in jobs}
