"""A sign-up app on each of the databases that it may have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mariadb_server import MariadbServer, serving_mariadb
from postgres_server import PostgresServer, serving_postgres


@pytest.fixture(scope="module", params=["sqlite", "postgres", "mariadb"])
def server(
    request: pytest.FixtureRequest, processes: None
) -> Iterator[MariadbServer | PostgresServer | None]:
    """The server of the app's database; None for SQLite. Of the module, as a test must not leave
    processes behind."""
    with ExitStack() as stack:
        if request.param == "postgres":
            yield stack.enter_context(serving_postgres())
        elif request.param == "mariadb":
            yield stack.enter_context(serving_mariadb())
        else:
            yield None


@pytest.fixture
def database(server: MariadbServer | PostgresServer | None, tmp_path: Path) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of the app."""
    if server is None:
        yield f"sqlite:///{tmp_path / 'app.sqlite3'}"
    else:
        with server.database() as url:
            yield url.replace("postgresql://", "postgresql+psycopg://")
