"""How the store's statements find their rows: a hundred thousand waiting jobs must not be looked at
one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from flask_offload.admin import search
from flask_offload.admin.search import Search
from flask_offload.engines import sql_sender
from flask_offload.engines.base import JobQuery
from flask_offload.engines.dialect import SQLITE
from flask_offload.engines.rows import WAITING, record
from flask_offload.engines.sqlite import (
    claims,
    completion,
    limits,
    maintenance,
    recovery,
    rows,
    sender,
)
from flask_offload.engines.sqlite.connection import Connection, Cursor
from flask_offload.jobs.job import JobStatus
from store_support import START, Store

EACH = 20_000
"""Jobs of each state that waits, and as many finished ones."""

FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
INSERT INTO jobs (seq, secret, task, queue_name, lane, priority, state, on_crash, origin,
    enqueued_at, run_after, finished_at, expires_at, concurrency_key, rate_key, unique_key, args)
SELECT ?2 * ?1 + n, hex(randomblob(16)), 'task', 'q' || n % 5, 'threads', n % 3, ?3, 'retry',
    'enqueue', ?4, iif(?3 = 'scheduled', ?4 + n, NULL), iif(?5, ?4, NULL), iif(?5, ?4 + n, NULL),
    iif(?3 IN ('blocked', 'throttled'), 'c' || n % 100, NULL),
    iif(?3 = 'throttled', 'r' || n % 100, NULL), iif(?3 = 'ready', 'u' || n, NULL), '[]'
FROM numbers
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with closing(Store(tmp_path_factory.mktemp("plans"))) as made:
        states = (*WAITING, "successful")
        for number, state in enumerate(states):
            made.execute(FILL, EACH, number, state, START, state == "successful")
        for kind, letter in (("concurrency", "c"), ("rate", "r")):
            made.execute(
                "INSERT INTO limits (kind, key, count, window)"
                f" SELECT DISTINCT ?, '{letter}' || seq % 100, 1, 10 FROM jobs",
                kind,
            )
        made.execute("INSERT OR IGNORE INTO queues (name) SELECT DISTINCT queue_name FROM jobs")
        made.engine.database.checkpoint()
        yield made
        made.engine.close()  # and at the end of each test, for the leak detector's sake


@pytest.fixture(autouse=True)
def let_go(store: Store) -> Iterator[None]:
    yield
    store.engine.close()


def bindings(statement: str) -> tuple[None, ...]:
    """As many as the statement takes; a plan does not depend on them."""
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    return (None,) * (max(numbered, default=0) or statement.count("?"))


def plan(store: Store, statement: str) -> str:
    return store.plan(statement, *bindings(statement))


HOT = {
    "pick": (claims.PICK, "jobs_ready"),
    "claim": (claims.CLAIM, "INTEGER PRIMARY KEY"),
    "promote": (claims.PROMOTE, "jobs_scheduled"),
    "next due": (claims.NEXT_DUE, "jobs_scheduled"),
    "succeed": (completion.SUCCEED, "INTEGER PRIMARY KEY"),
    "held": (completion.Completion.sql.held, "INTEGER PRIMARY KEY"),
    "end": (completion.Completion.sql.end, "INTEGER PRIMARY KEY"),
    "ready again": (completion.Completion.sql.ready_again, "INTEGER PRIMARY KEY"),
    "unclaim": (completion.Completion.sql.unclaim, "INTEGER PRIMARY KEY"),
    "report": (completion.Completion.sql.report, "INTEGER PRIMARY KEY"),
    "admit concurrency": (limits.ADMIT_CONCURRENCY, "jobs_blocked"),
    "admit rate": (limits.ADMIT_RATE, "jobs_throttled"),
    "give places back": (limits.GIVE_PLACES_BACK, "jobs_by_concurrency"),
    "give starts back": (limits.GIVE_STARTS_BACK, "jobs_by_rate"),
    "job by id": (rows.JOB_BY_ID, "INTEGER PRIMARY KEY"),
    "insert": (sender.INSERT, "SEARCH jobs"),
    "expired": (maintenance.EXPIRED, "jobs_expiring"),
    "surplus": (maintenance.SURPLUS, "jobs_expiring"),
    "expired results": (maintenance.EXPIRED_RESULTS, "results_expiring"),
    "cancel": (SQLITE.sql(sql_sender.CANCEL), "INTEGER PRIMARY KEY"),
    "retry": (SQLITE.sql(sql_sender.RETRY), "INTEGER PRIMARY KEY"),
    "held by": (recovery.HELD_BY, "jobs_running"),
    "running workers": (recovery.RUNNING_WORKERS, "jobs_running"),
}
ALL_OF_AN_INDEX = {"surplus", "running workers"}
"""They may look at a whole index, which holds nothing but what is asked for."""


@pytest.mark.parametrize("name", HOT)
def test_every_statement_finds_its_rows_by_an_index(store: Store, name: str) -> None:
    statement, index = HOT[name]
    steps = plan(store, statement)
    assert index in steps, steps
    for scan in re.findall(r"SCAN jobs\b.*", steps):
        assert name in ALL_OF_AN_INDEX, steps
        assert index in scan
    assert "TEMP B-TREE" not in steps, steps


def seen(store: Store, statement: str) -> int:
    """The rows and index entries at which SQLite really looks, in thousands of its steps."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    def work(connection: object) -> None:
        connection.set_progress_handler(count, 1000)  # type: ignore[attr-defined]
        try:
            connection.execute(statement, bindings(statement)).fetchall()  # type: ignore[attr-defined]
        finally:
            connection.set_progress_handler(None)  # type: ignore[attr-defined]

    store.engine.database.read(work)
    return steps


def test_counts_read_indexes_only(store: Store) -> None:
    for statement in (search.COUNTS, search.QUEUES):
        steps = plan(store, SQLITE.sql(statement))
        scans = re.findall(r"SCAN jobs.*|SEARCH jobs.*", steps)
        assert scans, steps
        assert all("COVERING INDEX" in step for step in scans), steps
        assert {re.sub(r".*INDEX (\w+).*", r"\1", step) for step in scans} == {
            *("jobs_scheduled", "jobs_blocked", "jobs_throttled", "jobs_ready", "jobs_running"),
            *(["jobs_finished"] if statement is search.COUNTS else []),
        }


def test_counting_a_million_ready_jobs_by_queue_sorts_nothing(store: Store) -> None:
    parts = SQLITE.sql(search.BY_QUEUE).split(" UNION ALL ")
    (ready,) = (part for part in parts if "'ready'" in part)
    assert plan(store, ready) == "SCAN jobs USING COVERING INDEX jobs_ready"


def test_cancellations_and_workers_look_at_running_jobs_only(store: Store) -> None:
    for statement, index in (
        (
            "SELECT seq, attempt, cancel FROM jobs"
            " WHERE state = 'running' AND cancel > 0 AND worker = ?",
            "jobs_cancelling",
        ),
        (
            "SELECT seq, attempt, started_at FROM jobs WHERE state = 'running' AND worker = ?",
            "jobs_running",
        ),
        (
            "SELECT DISTINCT jobs.worker, pid, boot FROM jobs"
            " LEFT JOIN workers ON workers.id = jobs.worker WHERE state = 'running'",
            "jobs_running",
        ),
    ):
        assert index in plan(store, statement)
        assert seen(store, statement) == 0


@pytest.mark.parametrize(
    ("status", "index"),
    [
        (JobStatus.SUCCESSFUL, "jobs_finished"),
        (JobStatus.FAILED, "jobs_finished"),
        (JobStatus.CANCELLED, "jobs_finished"),
        (JobStatus.RUNNING, "jobs_running"),
    ],
)
def test_lists_by_status_are_an_index(store: Store, status: JobStatus, index: str) -> None:
    asked: list[str] = []

    class Listening:
        """A connection that remembers what it was asked."""

        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def execute(self, statement: str, bindings: tuple[Any, ...] = ()) -> Cursor:
            asked.append(statement)
            return self.connection.execute(statement, bindings)

    def work(connection: Connection) -> list[tuple[Any, ...]]:
        return Search(Listening(connection), SQLITE).newest(JobQuery(status=status))

    found = store.engine.database.read(work)
    assert {record(row).status for row in found} <= {status}
    assert index in plan(store, asked[0])
    assert seen(store, asked[0].replace("LIMIT ? OFFSET ?", "LIMIT 50")) <= 3, "thousand steps"


def test_the_first_page_of_waiting_jobs_is_near(store: Store) -> None:
    """The newest jobs are those that wait: it passes no more than the finished ones, which are
    bounded by retention."""
    states = ", ".join(f"'{state}'" for state in WAITING)
    statement = f"SELECT seq FROM jobs WHERE state IN ({states}) ORDER BY seq DESC LIMIT 50"
    assert "TEMP B-TREE" not in plan(store, statement)
    assert seen(store, statement) <= EACH * 20 / 1000


@pytest.mark.parametrize("lane", ["threads", "none"])
def test_a_claim_costs_the_same_whatever_waits(store: Store, lane: str) -> None:
    """Counted in SQLite's own steps, which no noise disturbs."""
    for queue in ("q0", "none"):
        statement = claims.PICK.replace("lane = ?", f"lane = '{lane}'").replace(
            "queue_name = ?", f"queue_name = '{queue}'"
        )
        assert seen(store, statement.replace("LIMIT ?", "LIMIT 10")) == 0
