"""A database that an older release made, and releases side by side: docs/decisions/
database-versions.md."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from flask_offload.engines.sqlite.schema import APPLICATION_ID, MIGRATIONS, VERSION_1
from flask_offload.jobs.job import JobStatus
from store_support import START, Store

OLD_INSERT = """
INSERT INTO jobs (seq, secret, task, queue_name, lane, priority, state, on_crash, origin,
    enqueued_at, args)
VALUES (?, '0123456789abcdef0123456789abcdef', 'task', 'default', 'threads', 0, 'ready', 'retry',
    'enqueue', ?, '[[],{}]')
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a database of version 1, with one READY job."""
    with closing(apsw.Connection(str(tmp_path / "jobs.sqlite3"))) as connection:
        connection.execute(VERSION_1)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
        connection.execute("INSERT INTO queues (name) VALUES ('default')")
        connection.execute(OLD_INSERT, (1, START))
    return tmp_path


def test_a_database_of_version_1_is_upgraded_and_its_job_runs(old: Path) -> None:
    with closing(Store(old)) as store, closing(Store(old.joinpath("new"))) as new:
        new.path.parent.mkdir()
        assert store.engine.count()[JobStatus.READY] == 1
        assert store.query("PRAGMA user_version") == [(max(MIGRATIONS),)]
        worker = store.worker()
        (claim,) = worker.claim()
        worker.finish(claim)
        assert store.engine.count()[JobStatus.SUCCESSFUL] == 1
        schema = "SELECT name, sql FROM sqlite_schema ORDER BY name"
        new.enqueue()
        assert store.query(schema) == new.query(schema)


def test_code_of_version_1_enqueues_beside_this_release(old: Path) -> None:
    with closing(Store(old)) as store:
        store.engine.count()
        with closing(apsw.Connection(str(store.path))) as connection:
            connection.execute(OLD_INSERT, (2, START))
        assert len(store.worker().claim(2)) == 2


def test_rows_of_jobs_that_version_1_deleted_are_deleted(old: Path) -> None:
    with closing(Store(old)) as store:
        kept = store.enqueue()
        (seq,) = store.query("SELECT seq FROM jobs WHERE id = ?", kept.id)[0]
        for number in (0, 1, seq):
            store.execute("INSERT INTO steps VALUES (?, 'charge', '1')", number)
            store.execute("INSERT INTO logs VALUES (?, 1, '[]')", number)
        store.execute("DELETE FROM jobs WHERE seq = 1")
        store.engine.cancel(store.enqueue().id)
        store.clock.tick(2000)
        store.prune(1000)
        for table in ("steps", "logs"):
            assert store.query(f"SELECT seq FROM {table}") == [(seq,)]


def test_a_new_column_has_a_name_that_no_earlier_version_uses() -> None:
    """Statements of older code join tables without naming the table of a column."""
    with closing(apsw.Connection(":memory:")) as connection:

        def columns() -> dict[str, set[str]]:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            return {
                str(name): {
                    str(row[1]) for row in connection.execute(f"PRAGMA table_xinfo({name})")
                }
                for (name,) in tables.fetchall()
            }

        for number in sorted(MIGRATIONS):
            before = columns()
            known = set().union(*before.values())
            connection.execute(MIGRATIONS[number])
            for table, names in columns().items():
                if table in before:
                    added = names - before[table]
                    assert not added & known, f"version {number}: {table}"
