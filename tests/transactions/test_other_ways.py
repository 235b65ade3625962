# ruff: noqa: F811 (the fixtures are imported)
"""Transactions without an outbox; apps that did not pass db=."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from flask_offload import OptionError
from flask_offload.testing import drain
from postgres_server import PostgresServer
from signup_app import signup
from transaction_fixtures import server  # noqa: F401

pytestmark = pytest.mark.parametrize("server", ["postgres"], indirect=True, scope="module")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_joined_on_postgres(server: PostgresServer, driver: str, tmp_path: Path) -> None:
    pytest.importorskip(driver)
    with (
        server.database() as url,
        signup(
            url.replace("postgresql:", f"postgresql+{driver}:"), tmp_path, OFFLOAD_ENGINE="postgres"
        ) as site,
    ):
        assert "offload_outbox" not in site.db.metadata.tables
        for end, expected in ((site.db.session.rollback, 0), (site.db.session.commit, 3)):
            site.add("ann")
            job = site.welcome.enqueue("ann")
            site.offload.enqueue_many([site.welcome.call("bob"), site.once.call("bob")])
            assert site.once.enqueue("bob").is_duplicate
            with site.db.session.begin_nested() as nested:
                site.welcome.enqueue("lost")
                nested.rollback()
            assert site.jobs() == []
            end()
            assert len(site.jobs()) == expected
        assert job.refresh().waiting_for is None
        assert len(drain(site.app)) == 3


@pytest.mark.parametrize("limit", [{"concurrency": 2}, {"rate": "100/s"}])
def test_a_limit_that_was_forgotten_before_the_commit(
    server: PostgresServer, limit: dict[str, Any], tmp_path: Path
) -> None:
    with server.database() as url:
        url = url.replace("postgresql:", "postgresql+psycopg:")
        with signup(url, tmp_path, OFFLOAD_ENGINE="postgres") as site:

            @site.offload.task(name="limited", **limit)
            def limited() -> None: ...

            limited.enqueue()
            assert len(drain(site.app)) == 1
            site.add("ann")
            for _ in range(3):
                limited.enqueue()
            assert site.state.engine.prune(before=site.state.clock() + 1e7).jobs == 1
            server.execute("DELETE FROM offload.limits", site.db.engine.url.database or "")
            site.db.session.commit()
            assert len(drain(site.app)) == 3


def test_inline_runs_after_the_commit(server: object, tmp_path: Path) -> None:
    with signup("sqlite://", tmp_path, OFFLOAD_ENGINE="inline") as site:
        site.add("ann")
        lost = site.welcome.enqueue("ann")
        site.db.session.rollback()
        site.add("ann")
        job = site.welcome.enqueue("ann")
        assert site.jobs() == []
        site.db.session.commit()
        assert job.refresh().return_value == "welcome, ann"
        assert lost.id not in [one.id for one in site.jobs()]


def test_without_db_a_warning_once_per_place(
    server: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "flask_offload")
    with signup("sqlite://", tmp_path, has_db=False) as site:
        site.welcome.enqueue("read")
        assert not caplog.records
        for _ in range(3):
            site.add("ann")
            site.welcome.enqueue("pending")
            site.db.session.flush()
            site.welcome.enqueue("flushed")
            site.db.session.rollback()
        assert len(caplog.records) == 2
        assert "Offload(app, db=db)" in caplog.text
        assert "test_other_ways.py" in caplog.text
        assert "commit before the enqueue" in caplog.text
        with pytest.raises(OptionError, match="db=db"):
            site.welcome.using(after_commit=True).enqueue("x")
