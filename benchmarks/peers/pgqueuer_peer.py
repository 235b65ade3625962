"""PgQueuer on Postgres: its synchronous sender, and its own command runs the worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import PsycopgDriver, SyncPsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries, SyncQueries

from benchmarks.note import note

URL = os.environ["BENCH_URL"]
PLACE = os.environ["BENCH_PLACE"]
OPTIONS = f"-c search_path={PLACE}"
_queries: SyncQueries


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    """What its command runs."""
    async with await psycopg.AsyncConnection.connect(
        URL, autocommit=True, options=OPTIONS
    ) as connection:
        worker = PgQueuer(PsycopgDriver(connection))

        @worker.entrypoint("note")
        async def job(given: Job) -> None:
            assert given.payload is not None
            note(float(given.payload))

        yield worker


async def _install() -> None:
    async with await psycopg.AsyncConnection.connect(
        URL, autocommit=True, options=OPTIONS
    ) as connection:
        queries = Queries(PsycopgDriver(connection))
        if not await queries.schema_is_installed():
            await queries.install()


def prepare() -> None:
    """Make the tables, connect."""
    global _queries
    connection = psycopg.connect(URL, autocommit=True, options=OPTIONS)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {PLACE}")
    asyncio.run(_install())
    _queries = SyncQueries(SyncPsycopgDriver(connection))


def enqueue(sent: float) -> None:
    """Enqueue it."""
    _queries.enqueue("note", repr(sent).encode())
