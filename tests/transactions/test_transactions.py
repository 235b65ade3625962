# ruff: noqa: F811 (the fixtures are imported)
"""Jobs commit with the app's data, on each database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.orm import Session

from flask_offload import JobNotFound, JobStatus, NotCommitted, OutboxMissing
from flask_offload.testing import drain
from signup_app import Signup, signup
from transaction_fixtures import database, server  # noqa: F401

Write = Callable[[Signup], object]


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[Signup]:
    with signup(database, tmp_path) as made:
        yield made


def _flushed(site: Signup) -> None:
    site.add("ann")
    site.db.session.flush()


def _modified(site: Signup) -> None:
    site.db.session.add(site.User(name="old"))
    site.db.session.commit()
    site.db.session.query(site.User).one().name = "new"


def _driver_sql(site: Signup) -> None:
    connection = site.db.session.connection()
    connection.exec_driver_sql(
        "insert into user_ (id, name) values (1, 'ann')".replace("user_", _t(site))
    )


def _t(site: Signup) -> str:
    quote = "`" if "mysql" in str(site.db.engine.url) else '"'
    return f"{quote}user{quote}"


WRITES: dict[str, Write] = {
    "pending": lambda site: site.add("ann"),
    "flushed": _flushed,
    "modified": _modified,
    "bulk": lambda site: site.db.session.bulk_save_objects([site.User(name="ann")]),
    "bulk insert": lambda site: site.db.session.execute(insert(site.User), [{"name": "ann"}]),
    "update": lambda site: site.db.session.execute(update(site.User).values(name="x")),
    "delete": lambda site: site.db.session.execute(delete(site.User)),
    "core": lambda site: site.db.session.execute(insert(site.User.__table__).values(name="ann")),
    "text": lambda site: site.db.session.execute(
        text(f"/* no select */ insert into {_t(site)} (name) values ('select')")
    ),
    "driver": _driver_sql,
}


@pytest.mark.parametrize("way", WRITES)
def test_exists_if_the_write_commits(site: Signup, way: str) -> None:
    for ends, expected in (("rollback", 0), ("commit", 1)):
        WRITES[way](site)
        job = site.welcome.enqueue("ann")
        assert site.jobs() == []
        assert job.refresh().waiting_for == "its commit"
        getattr(site.db.session, ends)()
        assert [one.id for one in site.jobs()] == [job.id] * expected
        site.db.session.execute(delete(site.User))
        site.db.session.commit()
    assert job.refresh().status is JobStatus.READY
    (ran,) = drain(site.app)
    assert (ran.id, ran.return_value) == (job.id, "welcome, ann")


def test_a_session_that_has_only_read_holds_nothing_back(site: Signup) -> None:
    session = site.db.session
    for read in (
        lambda: session.scalars(site.db.select(site.User)).all(),
        lambda: session.execute(text("SELECT 'insert into x' AS y")).all(),
        lambda: session.execute(site.db.select(site.User).with_for_update()).all(),
        lambda: session.execute(text("with a as (select 1 as b) select b from a")).all(),
    ):
        read()
        before = len(site.jobs())
        site.welcome.enqueue("ann")
        assert len(site.jobs()) == before + 1
    session.rollback()
    assert len(site.jobs()) == 4


def test_savepoints_take_their_jobs_along(site: Signup) -> None:
    session = site.db.session
    site.add("outer")
    site.welcome.enqueue("outer")
    kept = session.begin_nested()
    site.add("kept")
    site.welcome.enqueue("kept")
    inner = session.begin_nested()
    site.add("inner")
    lost = site.welcome.enqueue("inner")
    inner.rollback()
    kept.commit()
    gone = session.begin_nested()
    site.add("gone")
    within = session.begin_nested()
    site.add("within")
    site.welcome.enqueue("within")
    within.commit()
    site.welcome.enqueue("gone")
    gone.rollback()
    with pytest.raises(JobNotFound):
        lost.refresh()
    session.commit()
    ran = drain(site.app)
    assert [job.return_value for job in ran] == ["welcome, outer", "welcome, kept"]


def test_a_write_in_a_savepoint_that_is_rolled_back_is_no_write(site: Signup) -> None:
    session = site.db.session
    session.execute(site.db.select(site.User)).all()
    nested = session.begin_nested()
    site.add("ann")
    session.flush()
    nested.rollback()
    site.welcome.enqueue("bob")
    assert len(site.jobs()) == 1


def test_many_jobs_in_order(site: Signup) -> None:
    site.add("ann")
    names = [f"n{number}" for number in range(250)]
    jobs = site.offload.enqueue_many([site.welcome.call(name) for name in names])
    jobs.append(site.welcome.enqueue("last"))
    site.db.session.commit()
    assert [job.id for job in site.jobs()] == [job.id for job in jobs]


def test_using_after_commit(site: Signup) -> None:
    site.add("ann")
    site.welcome.using(after_commit=False).enqueue("now")
    assert len(site.jobs()) == 1
    site.db.session.rollback()
    site.welcome.using(after_commit=True).enqueue("later")
    assert len(site.jobs()) == 1
    site.db.session.commit()
    assert len(site.jobs()) == 2


def test_before_the_commit_nothing_hangs(site: Signup) -> None:
    site.add("ann")
    job = site.welcome.enqueue("ann")
    with pytest.raises(NotCommitted, match="commit before you wait"):
        job.wait(timeout=20)
    with pytest.raises(NotCommitted, match="can't be cancelled"):
        job.cancel()
    site.db.session.commit()
    assert job.cancel().status is JobStatus.CANCELLED


def test_unique_jobs_of_two_transactions(site: Signup) -> None:
    site.add("ann")
    first = site.once.enqueue("ann")
    site.db.session.commit()
    site.add("bob")
    second = site.once.enqueue("ann")
    site.db.session.commit()
    assert second.is_duplicate
    assert second.id == first.id
    assert [job.id for job in site.jobs()] == [first.id]


def test_unique_jobs_that_the_relay_compares(site: Signup) -> None:
    jobs = [site.once.call("ann").new_job for _ in range(2)]
    site.state.engine.relay(jobs, float("inf"))
    first, second = (site.offload.get_job(job.id) for job in jobs)
    assert first.status is JobStatus.READY
    assert second.status is JobStatus.CANCELLED
    assert second.error is not None
    assert first.id in second.error.message


def test_a_session_that_is_closed_without_a_commit_is_reported(
    site: Signup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "flask_offload")
    site.add("ann")
    site.welcome.enqueue("ann")
    site.db.session.rollback()
    assert not caplog.records
    site.add("ann")
    job = site.welcome.enqueue("ann")
    site.db.session.remove()
    assert job.id in caplog.text
    assert "neither committed nor rolled back" in caplog.text
    assert site.jobs() == []


@pytest.mark.parametrize("after", ["accepted", "deleted"])
def test_a_row_that_a_crash_left_becomes_one_job(
    site: Signup, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: Any = site.state.transactions
    outbox, relay = transactions._outbox, transactions._relay
    monkeypatch.setattr(transactions, "_relay_soon", lambda *_: None)
    site.add("ann")
    job = site.welcome.enqueue("ann")
    site.db.session.commit()
    assert site.jobs() == []
    assert site.offload.get_job(job.id).status is JobStatus.READY  # from the outbox
    jobs = outbox.take(site.db.engine, ids=[job.id])
    site.state.engine.relay(jobs, float("inf"))
    if after == "deleted":
        outbox.delete(site.db.engine, [job.id])
    assert [one.id for one in drain(site.app)] == [job.id]
    site.state.engine.prune(before=site.state.clock() + 100)
    assert site.jobs() == []
    assert relay.relay(site.db.engine, before=2e9) == (after == "accepted")
    site.state.engine.relay(jobs, float("inf"))  # by a process that had read it before
    assert site.jobs() == []
    assert outbox.waiting(site.db.engine)[0] == 0


def test_without_the_table_a_sentence(site: Signup) -> None:
    site.db.metadata.tables["offload_outbox"].drop(site.db.engine)
    result = site.app.test_cli_runner().invoke(args=["offload", "check"])
    assert "no table offload_outbox" in result.output
    assert "flask db migrate" in result.output
    site.add("ann")
    with pytest.raises(OutboxMissing, match="create_all"):
        site.welcome.enqueue("ann")
    site.db.session.rollback()


def test_a_failed_constraint_takes_the_jobs_along(site: Signup) -> None:
    site.add("ann")
    site.welcome.enqueue("ann")
    site.add("ann")
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        site.db.session.commit()
    site.db.session.rollback()
    assert site.jobs() == []


def test_plain_scoped_session(database: str, tmp_path: Path) -> None:
    from flask import Flask
    from sqlalchemy import Column, Integer, MetaData, Table, create_engine
    from sqlalchemy.orm import scoped_session, sessionmaker

    from flask_offload import ConfigError, Offload

    engine = create_engine(database)
    metadata = MetaData()
    things = Table("things", metadata, Column("id", Integer, primary_key=True))
    session: scoped_session[Session] = scoped_session(sessionmaker(engine))
    app = Flask("plain")
    app.config.update(TESTING=True, OFFLOAD_WORKER="off")
    with pytest.raises(ConfigError, match="metadata"):
        Offload(Flask("x"), db=session)
    with pytest.raises(ConfigError, match="scoped_session"):
        Offload(Flask("x"), db=sessionmaker(engine), metadata=metadata)
    offload = Offload(app, db=session, metadata=metadata)
    metadata.create_all(engine)

    @offload.task(name="plain")
    def plain() -> None: ...

    with app.app_context():
        for end, expected in ((session.rollback, 0), (session.commit, 1)):
            session.execute(insert(things).values())
            plain.enqueue()
            end()
            assert offload.engine.count()[JobStatus.READY] == expected
    session.remove()
    engine.dispose()
    offload.state_of(app).engine.close()
