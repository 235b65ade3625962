"""The statements of a request: how many, how long, and which line repeats them."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy
from flask import Flask
from sqlalchemy.exc import OperationalError

from blocking_app import Found
from flask_offload.profiler.install import install
from flask_offload.profiler.middleware import observed, observer
from flask_offload.profiler.queries import MAX_DIFFERENT, QueryLog
from flask_offload.profiler.request_sample import RequestSample
from flask_offload.profiler.spot_report import SpotReport
from flask_offload.profiler.stacks import UserCode
from mariadb_server import serving_mariadb
from postgres_server import serving_postgres


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


def ask_for_each_book(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE book (id INTEGER)")
    cursor.executemany("INSERT INTO book VALUES (%s)", [(1,), (2,)])
    for number in range(25):
        cursor.execute("SELECT id FROM book WHERE id = %s", (number,))
        cursor.fetchall()


@pytest.mark.processes
@pytest.mark.parametrize("library", ["psycopg", "pymysql"])
def test_statements_of_a_driver_are_counted_on_its_server(library: str) -> None:
    with ExitStack() as stack:
        if library == "psycopg":
            url = stack.enter_context(serving_postgres()).url
            connection: Any = stack.enter_context(closing(psycopg.connect(url)))
        else:
            port = stack.enter_context(serving_mariadb()).port
            connected = pymysql.connect(host="127.0.0.1", port=port, user="root")
            connection = stack.enter_context(closing(connected))
            connection.cursor().execute("CREATE DATABASE shop")
            connection.select_db("shop")
        app = Flask(__name__)
        app.add_url_rule("/", "index", lambda: ask_for_each_book(connection) or "done")  # type: ignore[func-returns-value]
        install(app, Found().settings())
        requests: list[RequestSample] = []
        observing = observer.set(requests.append)
        observed.append(requests.append)
        try:
            app.test_client().get("/").close()
        finally:
            observed.remove(requests.append)
            observer.reset(observing)
    most, *others = requests[0].query_log().queries()
    assert (most.times, sum(query.times for query in others)) == (25, 2)
    assert most.statement == "SELECT id FROM book WHERE id = %s"
    assert (most.code, most.line - ask_for_each_book.__code__.co_firstlineno) == (
        ask_for_each_book.__code__,
        5,
    )
    assert most.seconds > 0


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
