"""The store's test double on PostgreSQL, for the tests that compare a store with its model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flask_offload.admin.postgres import PostgresEngine
from flask_offload.engines.postgres.connection import PgConnection
from flask_offload.engines.postgres.maintenance import prune
from flask_offload.engines.store import StoreOptions
from store_support import KEEP, Clock, Store, Worker


class PostgresModelStore(Store):
    """An engine on this database, with a clock to set and workers to claim."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.postgres = PostgresEngine(
            url, durable=False, clock=self.clock, keep_cancelled=lambda task: KEEP.failed
        )
        self.engine = self.postgres  # type: ignore[assignment]
        self._workers = []
        self._witness = self.postgres.open_store(
            StoreOptions(kind="test", retention=KEEP, places=1, capacity=1)
        )

    def close(self) -> None:
        self._witness.close()
        super().close()

    def worker(self, **options: Any) -> Worker:
        made = PostgresModelWorker(self, **options)
        self._workers.append(made)
        return made

    def recover(self) -> list[tuple[str, int]]:
        return self._witness.recover()

    def prune(self, keep_count: int) -> None:
        now = self.clock()
        self.postgres.database.write(
            lambda connection: prune(connection, now, keep_count=keep_count)
        )

    def query(self, statement: str, *bindings: object) -> list[tuple[Any, ...]]:
        return self.postgres.database.read(
            lambda connection: connection.execute(_translated(statement), bindings).fetchall()
        )

    def execute(self, statement: str, *bindings: object) -> None:
        def work(connection: PgConnection) -> None:
            connection.execute(_translated(statement), bindings)

        self.postgres.database.write(work)


class PostgresModelWorker(Worker):
    """A worker as the database and the run folder see it."""

    def __init__(self, store: PostgresModelStore, *, queues: Iterable[str] | None = None) -> None:
        super().__init__(store, queues=queues)

    def serve(self, queues: Iterable[str] | None) -> None:
        """See Worker.serve."""
        ready = self.sqlite_store.ready  # type: ignore[attr-defined]
        names = None if queues is None else sorted(queues)
        if names != ready.queues:
            ready.queues = names
            ready.forget()

    def die(self, *, files_too: bool = False) -> None:
        self.sqlite_store.session.close()  # type: ignore[attr-defined]
        super().die()


def _translated(statement: str) -> str:
    return re.sub(r"\b(FROM|JOIN|UPDATE|ANALYZE) (\w+)", r"\1 offload.\2", statement).replace(
        "?", "%s"
    )
