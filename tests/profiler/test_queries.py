"""The statements of a request: how many, how long, and which line repeats them."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy
from flask import Flask
from sqlalchemy.exc import OperationalError

from blocking_app import Found
from flask_offload.profiler.install import install
from flask_offload.profiler.queries import MAX_DIFFERENT, QueryLog
from flask_offload.profiler.spot_report import SpotReport
from flask_offload.profiler.stacks import UserCode


def report_of(view: Callable[[], Any]) -> SpotReport:
    """What is reported about a request to this view, which also sleeps for long enough."""
    found, app = Found(), Flask(__name__)

    def index() -> str:
        view()
        time.sleep(0.06)
        return "done"

    app.add_url_rule("/", "index", index)
    install(app, found.settings(spot_above_ms=50.0))
    app.test_client().get("/").close()
    return found.next()


@pytest.fixture
def engine() -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine("sqlite://")
    yield engine
    engine.dispose()


def test_statements_of_sqlalchemy_are_counted(engine: sqlalchemy.Engine) -> None:
    def view() -> None:
        with engine.connect() as connection:
            for number in range(7):
                connection.execute(sqlalchemy.text(f"SELECT {number}"))

    report = report_of(view)
    assert report.queries == 7
    assert "7 SQL statements took" in report.sentence


def test_statements_of_sqlite3_are_counted_by_cursor_and_connection() -> None:
    def view() -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE TABLE book (id INTEGER)")
            connection.executemany("INSERT INTO book VALUES (?)", [(1,), (2,)])
            cursor = connection.cursor()
            cursor.execute("SELECT * FROM book")
            assert cursor.fetchall() == [(1,), (2,)]
            assert isinstance(connection, sqlite3.Connection)

    assert report_of(view).queries == 3


def test_a_statement_that_fails_is_counted_and_its_error_is_not_changed(
    engine: sqlalchemy.Engine,
) -> None:
    def view() -> None:
        with engine.connect() as connection, pytest.raises(OperationalError, match="no such"):
            connection.execute(sqlalchemy.text("SELECT * FROM missing"))
        plain = sqlite3.connect(":memory:")
        with closing(plain), pytest.raises(sqlite3.OperationalError, match="no such"):
            plain.execute("SELECT * FROM missing")

    assert report_of(view).queries == 2


def test_outside_of_a_request_nothing_is_counted(engine: sqlalchemy.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
    assert report_of(lambda: None).queries == 0


def test_endlessly_many_different_statements_do_not_fill_the_memory() -> None:
    log = QueryLog(UserCode())
    for number in range(MAX_DIFFERENT + 50):
        assert log.begin()
        log.end(f"SELECT {number}", None)
    queries = log.queries()
    assert len(queries) == MAX_DIFFERENT
    assert sum(query.times for query in queries) == MAX_DIFFERENT + 50


def test_a_statement_within_another_counts_once() -> None:
    """SQLAlchemy's is also one of the driver below it."""
    log = QueryLog(UserCode())
    assert log.begin()
    assert not log.begin()
    log.end("SELECT 1", None)
    assert [query.times for query in log.queries()] == [1]


def test_many_short_statements_are_seen_though_they_leave_the_sampler_no_time() -> None:
    """Each releases the interpreter too briefly for another thread to get it."""

    def view() -> None:
        with closing(sqlite3.connect(":memory:")) as connection:
            until = time.perf_counter() + 0.3
            while time.perf_counter() < until:
                connection.execute("SELECT 1")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(5.0)  # no thread is made to release it
    try:
        report = report_of(view)
    finally:
        sys.setswitchinterval(interval)
    assert sum(each.share for each in report.blockers) >= 0.9, report.sentence
    assert report.samples >= 10
