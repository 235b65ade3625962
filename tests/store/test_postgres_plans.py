"""How the PostgreSQL engine's statements find their rows: by an index, also when their plan was
made while the table was empty."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from flask_offload.admin.postgres import PostgresEngine
from flask_offload.engines.postgres import claims, completion, maintenance, recovery
from flask_offload.engines.postgres.connection import PgConnection
from flask_offload.engines.postgres.worker_store import PostgresStore
from flask_offload.engines.store import StoreOptions
from flask_offload.jobs.rate import Rate
from postgres_server import PostgresServer, shared_server
from store_support import KEEP, new_job, outcome

CLAIM = {
    "lanes": ["threads"],
    "counts": [10],
    "slack": 10,
    "queues": None,
    "worker": "w",
    "now": 1.0,
}
COLUMNS = [[1], [1], [1.0], [1.0], [1.0], ["1"], [1.0]]

STATEMENTS: dict[str, tuple[str, Sequence[object] | dict[str, object]]] = {
    "claim": (claims.CLAIM, CLAIM),
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
