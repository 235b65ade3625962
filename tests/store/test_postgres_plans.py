"""How the PostgreSQL engine's statements find their rows: by an index, also when their plan was
made while the table was empty."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from flask_offload import JobStatus
from flask_offload.admin.postgres import PostgresEngine
from flask_offload.engines.base import JobQuery
from flask_offload.engines.postgres import (
    claims,
    completion,
    maintenance,
    ready_jobs,
    recovery,
)
from flask_offload.engines.postgres.connection import PgConnection
from flask_offload.engines.postgres.worker_store import PostgresStore
from flask_offload.engines.store import StoreOptions
from flask_offload.jobs.attempt import Claim
from flask_offload.jobs.rate import Rate
from postgres_server import PostgresServer, shared_server
from store_support import KEEP, new_job, outcome

CLAIM = {
    "lanes": ["threads"],
    "counts": [10],
    "looks": [30],
    "known_lanes": ["threads"],
    "known_priorities": [0],
    "known": [1],
    "queues": None,
    "worker": "w",
    "now": 1.0,
}
COLUMNS = [[1], [1], [1.0], [1.0], [1.0], ["1"], [1.0]]

STATEMENTS: dict[str, tuple[str, Sequence[object] | dict[str, object]]] = {
    "claim": (ready_jobs.CLAIM, CLAIM),
    "promote": (claims.PROMOTE, (1.0,)),
    "next due": (claims.NEXT_DUE, {"now": 1.0}),
    "cancelling": (claims.CANCELLING, ("w",)),
    "succeed": (completion.SUCCEED, (*COLUMNS, "w")),
    "held": (recovery.HELD_BY, ("w",)),
    "expired": (maintenance.EXPIRED, (1.0,)),
    "expired results": (maintenance.EXPIRED_RESULTS, (1.0,)),
}


@pytest.fixture(scope="session")
def server(processes: None) -> PostgresServer:
    """The server of this process."""
    return shared_server()


@pytest.fixture
def store(server: PostgresServer) -> Iterator[PostgresStore]:
    options = StoreOptions(kind="test", retention=KEEP, places=64, capacity=4)
    with (
        server.database() as url,
        closing(PostgresEngine(url)) as engine,
        closing(engine.open_store(options)) as made,
    ):
        yield made


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_a_worker_reads_the_whole_table(store: PostgresStore, name: str) -> None:
    statement, parameters = STATEMENTS[name]

    def plan(connection: PgConnection) -> str:
        rows = connection.execute(f"EXPLAIN {statement}", parameters)
        return "\n".join(str(row[0]) for row in rows)

    shown = store.session.write(plan)
    assert "Seq Scan on jobs" not in shown, shown
    assert "Index" in shown, shown
    if name in ("claim", "succeed"):
        assert "jobs_running" not in shown, shown


def test_no_more_jobs_are_let_through_than_a_limit_says_whatever_the_statistics_say(
    store: PostgresStore,
) -> None:
    """Those of a table of one row make PostgreSQL run an inner query once for each row."""
    engine = store.engine
    rate: dict[str, object] = {"task": "rate", "rate_key": "r", "rate": Rate(1, 1000)}
    engine.enqueue([new_job(time.time(), **rate)])
    engine.database.write(lambda connection: connection.execute("ANALYZE offload.jobs"))
    engine.enqueue([new_job(time.time(), priority=n % 3, **rate) for n in range(6)])
    engine.enqueue([new_job(time.time(), concurrency_key="c", concurrency=2) for _ in range(6)])
    claimed = store.exchange([], {"threads": 12}).claims
    assert sorted(claim.task for claim in claimed) == ["app.task", "app.task", "rate"]
    store.exchange([outcome(claim, time.time()) for claim in claimed], {})
    pruned = engine.database.write(lambda c: maintenance.prune(c, time.time(), keep_count=2))
    assert pruned.jobs == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_relay_asks_once_to_notify_the_workers(
    store: PostgresStore, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, statements, execute = store.engine, list[str](), PgConnection.execute

    def recording(connection: PgConnection, statement: str, *rest: Any) -> Any:
        statements.append(statement)
        return execute(connection, statement, *rest)

    assert isinstance(engine, PostgresEngine)
    store.notifier.clear()
    monkeypatch.setattr(PgConnection, "execute", recording)
    jobs = [new_job(time.time()) for _ in range(count)]
    assert len(engine.relay(jobs, math.inf)) == count
    assert sum("pg_notify" in statement for statement in statements) == 1
    assert select.select([store.notifier], [], [], 5)[0]
    statements.clear()
    assert engine.relay(jobs, math.inf) == []  # known: there is nothing to do
    assert not any("pg_notify" in statement for statement in statements)


def test_a_plan_of_the_empty_table_is_good_for_a_full_one(store: PostgresStore) -> None:
    def turn(count: int) -> float:
        began = time.perf_counter()
        for _ in range(20):
            found = store.exchange([], {"threads": count}).claims
            store.give_back(found)
        return time.perf_counter() - began

    store.engine.enqueue([new_job(time.time()) for _ in range(5)])
    few = turn(5)
    for _ in range(10):
        store.engine.enqueue([new_job(time.time()) for _ in range(1000)])
    assert turn(5) < 10 * few


# --- claims beside a backlog ------------------------------------------------------------------


def claimed(store: PostgresStore, count: int) -> list[str]:
    """The tasks of the jobs that a claim finds."""
    return [claim.task for claim in store.exchange([], {"threads": count}).claims]


def backlog(store: PostgresStore) -> None:
    """40 waiting jobs, of which this worker has seen more than it has claimed."""
    store.engine.enqueue([new_job(time.time(), task=f"{n}", priority=1) for n in range(40)])
    assert claimed(store, 2) == ["0", "1"]


def test_what_becomes_ready_before_the_jobs_that_are_known_is_claimed_before_them(
    store: PostgresStore,
) -> None:
    engine = store.engine
    first = engine.enqueue([new_job(time.time(), task="first", priority=1)])[0]
    engine.cancel(first.id)
    backlog(store)
    engine.enqueue([new_job(time.time(), task="lower"), new_job(time.time(), task="lower")])
    assert claimed(store, 2) == ["2", "3"]
    engine.enqueue([new_job(time.time(), task="higher", priority=2)])
    assert claimed(store, 2) == ["higher", "4"]
    engine.retry(first.id)
    assert claimed(store, 2) == ["first", "5"]
    claims = store.exchange([], {"threads": 2}).claims
    assert [claim.task for claim in claims] == ["6", "7"]
    store.give_back(claims)
    assert claimed(store, 3) == ["6", "7", "8"]


def test_jobs_that_are_known_and_no_longer_wait_are_passed_over(store: PostgresStore) -> None:
    engine = store.engine
    backlog(store)
    options = StoreOptions(kind="test", retention=KEEP, places=64, capacity=4)
    other = engine.open_store(options)
    assert isinstance(other, PostgresStore)
    with closing(other):
        assert claimed(other, 2) == ["2", "3"]
        waiting = engine.list(JobQuery(status=JobStatus.READY))
        for record in waiting:
            if record.task in ("4", "5"):
                engine.cancel(record.id)
        assert claimed(store, 2) == ["6", "7"]
        assert claimed(store, 2) == ["8", "9"]
        assert claimed(other, 24) == [str(n) for n in range(10, 34)]  # all that the first knows
        assert claimed(store, 2) == ["34", "35"]
    engine.pause("default")
    assert claimed(store, 2) == []
    engine.resume("default")
    assert claimed(store, 2) == ["36", "37"]


def test_a_claim_reads_no_more_beside_a_transaction_that_stays_open(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_jobs, "LOOK_EVERY", 60.0)  # however slow this machine is

    def run(rounds: int) -> None:
        held: list[Claim] = []
        for _ in range(rounds):
            outcomes = [outcome(claim, time.time()) for claim in held]
            held = store.exchange(outcomes, {"threads": 50}).claims
            assert len(held) == 50
        store.exchange([outcome(claim, time.time()) for claim in held], {})

    def pages() -> int:
        """That a claim of the jobs that are known reads; and it is undone."""
        known = [seq for _, seq in store.ready._lanes["threads"].known[:30]]
        assert len(known) == 30
        given = {"looks": [0], "known_lanes": ["threads"] * 30, "known_priorities": [0] * 30}
        parameters = {**CLAIM, **given, "known": known}
        read: list[int] = []

        def explain(connection: PgConnection) -> None:
            statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {ready_jobs.CLAIM}"
            plan = connection.value(statement, parameters)[0]["Plan"]
            read.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
            raise InterruptedError

        with suppress(InterruptedError):
            store.session.write(explain)
        return read[0]

    for _ in range(4):
        store.engine.enqueue([new_job(time.time()) for _ in range(1000)])
    run(3)
    before = pages()
    with psycopg.connect(store.engine.database.url) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        run(40)
        assert pages() <= 1.3 * before
