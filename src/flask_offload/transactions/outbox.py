"""The table `offload_outbox` in the app's database: jobs that are committed and not yet relayed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..errors import OutboxMissing
from ..jobs.new_job import NewJob

NAME = "offload_outbox"
BATCH = 100


def outbox_table(metadata: MetaData) -> Table:
    """The table, which is added to this metadata unless it is there."""
    found = metadata.tables.get(NAME)
    if found is not None:
        return found
    return Table(
        NAME,
        metadata,
        Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("id", String(64), nullable=False, unique=True),
        # JSON, as bytes: what a database takes for text depends on its settings
        Column("job", LargeBinary().with_variant(LONGBLOB, "mysql", "mariadb"), nullable=False),
        Column("enqueued_at", Double, nullable=False),
    )


class OutboxTable:
    """Rows of the table. Errors: SQLAlchemy's, and OutboxMissing where that says more."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def add(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        """Insert jobs in the transaction of this connection."""
        now = time.time()
        rows = [{"id": job.id, "job": msgspec.json.encode(job), "enqueued_at": now} for job in jobs]
        try:
            connection.execute(insert(self.table), rows)
        except SQLAlchemyError as error:
            if not isinstance(error, NOT_MISSING) and self.is_missing(connection.engine):
                raise OutboxMissing from error
            raise

    def take(self, engine: Engine, *, ids: Sequence[str] = (), before: float = 0.0) -> list[NewJob]:
        """Committed jobs in order: those with these ids, or else the first that were enqueued
        before that moment (unix seconds)."""
        columns = self.table.c
        wanted = columns.id.in_(ids) if ids else columns.enqueued_at < before
        query = select(columns.job).where(wanted).order_by(columns.seq).limit(BATCH)
        with engine.begin() as connection:
            rows = connection.execute(query).all()
        return [msgspec.json.decode(body, type=NewJob) for (body,) in rows]

    def delete(self, engine: Engine, ids: Sequence[str]) -> None:
        """Delete the rows of jobs that were relayed."""
        with engine.begin() as connection:
            connection.execute(delete(self.table).where(self.table.c.id.in_(ids)))

    def find(self, engine: Engine, job_id: str) -> NewJob | None:
        """The committed job of a row."""
        found = self.take(engine, ids=[job_id])
        return found[0] if found else None

    def waiting(self, engine: Engine) -> tuple[int, float | None]:
        """How many rows there are, and since when (unix seconds)."""
        query = select(func.count(), func.min(self.table.c.enqueued_at)).select_from(self.table)
        with engine.begin() as connection:
            count, since = connection.execute(query).one()
        return int(count), since

    def is_missing(self, engine: Engine) -> bool:
        """Whether the database has no such table; False if it can't be asked."""
        try:
            return not inspect(engine).has_table(NAME, schema=self.table.schema)
        except SQLAlchemyError:
            return False


def _not_missing() -> tuple[type[BaseException], ...]:
    from sqlalchemy.exc import DisconnectionError, IntegrityError, InvalidRequestError

    return DisconnectionError, IntegrityError, InvalidRequestError


NOT_MISSING: Any = _not_missing()
"""Errors that have another cause."""
