"""The stores that are tortured: where the jobs are, and what is particular to each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask_offload.admin.postgres import PostgresEngine
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.postgres.maintenance import size
from postgres_server import shared_server


class SqliteWorldStore:
    """A file. place: its path, for the auditor. config: settings of the tortured app."""

    newer = """
import flask_offload.engines.sqlite.schema as schema
schema.MIGRATIONS[max(schema.MIGRATIONS) + 1] = "ALTER TABLE workers ADD COLUMN colour TEXT"
"""
    """As sitecustomize.py, it makes every process that finds it one of the next version."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self.config: dict[str, Any] = {"OFFLOAD_SQLITE_PATH": self.place}
        self.engine = SqliteEngine(path)

    def size(self) -> int:
        """Bytes of the database."""
        return Path(self.place).stat().st_size


class PostgresWorldStore:
    """A database of its own on a server that all worlds of this process share. place: its URL."""

    newer = """
import flask_offload.engines.postgres.schema as schema
schema.MIGRATIONS[max(schema.MIGRATIONS) + 1] = (
    "ALTER TABLE offload.workers ADD COLUMN colour text")
"""

    def __init__(self, url: str) -> None:
        self.place = url
        self.config: dict[str, Any] = {"OFFLOAD_ENGINE": "postgres", "OFFLOAD_POSTGRES_URL": url}
        self.engine = PostgresEngine(url)

    def size(self) -> int:
        """Bytes of all tables and indexes."""
        return self.engine.database.read(size)

    def end_session(self, pid: int) -> None:
        """End what this process has on the server, as an administrator does."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE application_name = 'flask-offload {pid}'"
        )

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the superuser."""
        return shared_server().execute(statement, self.place.rpartition("/")[2])


WorldStore = SqliteWorldStore | PostgresWorldStore


@contextmanager
def opened_store(name: str, path: Path) -> Iterator[WorldStore]:
    """A store, empty unless it is a file that is there."""
    if name == "sqlite":
        yield SqliteWorldStore(path)
    else:
        with shared_server().database() as url:
            yield PostgresWorldStore(url)
