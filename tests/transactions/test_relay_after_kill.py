# ruff: noqa: F811 (the fixtures are imported)
"""A web process is killed after COMMIT, before its jobs are relayed or before their rows are
deleted: a worker's sweep relays them, each once, those of a transaction in order."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from brokers import Server
from celery_fixtures import rabbit, redis  # noqa: F401
from flask_offload import JobStatus
from order_app import Order, create_app, db, offload
from support import APP_PATH, answers, free_port, http_request, running, wait_until
from transaction_fixtures import database, server  # noqa: F401

pytestmark = pytest.mark.processes
APP = ("-m", "flask", "--app", "order_app:create_app")
RAN = [f"{name}{number}" for name in ("relayed", "killed") for number in (1, 2, 3)]


class OrderSite:
    """The app in processes of its own and in this one, which looks at its databases."""

    def __init__(self, folder: Path, url: str, **config: Any) -> None:
        self.folder = folder
        self.settings = {
            "SQLALCHEMY_DATABASE_URI": url,
            "OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            "OFFLOAD_WORKER": "off",
            **config,
        }
        self.env = {
            **{f"FLASK_{key}": _as_text(value) for key, value in self.settings.items()},
            "WITNESS": str(folder / "witness"),
            "PYTHONPATH": APP_PATH,
        }

    def order(self) -> None:
        """A web server takes three orders: the first is rolled back, the jobs of the second are
        relayed, and at the commit of the third it is killed."""
        port = free_port()
        where = f"http://127.0.0.1:{port}"
        words = [sys.executable, *APP, "run", "--port", str(port)]
        with running(words, env=self.env, cwd=self.folder, ready=lambda _: answers(where)) as web:
            assert http_request("POST", f"{where}/order/rolled").status == 409
            assert http_request("POST", f"{where}/order/relayed").status == 200
            wait_until(lambda: sum(self.left()[1].values()) == 3, 30, "the relay")
            with suppress(OSError, HTTPException):  # it may be killed before it answers
                http_request("POST", f"{where}/order/killed")
            assert web.wait() == -9

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The app in this process, without its relay."""
        with create_app(**self.settings).app_context():
            try:
                yield
            finally:
                db.session.remove()
                db.engine.dispose()
                offload.engine.close()

    def sweep(self) -> list[str]:
        """What jobs did, once a worker has left nothing to do."""
        words = [sys.executable, *APP, "offload", "worker", "--threads", "1", "--processes", "1"]
        with running(words, env=self.env, cwd=self.folder) as process, self.opened():
            wait_until(self._is_quiet, 60, lambda: f"no rows, all done: {self.left()} {process}")
        return (self.folder / "witness").read_text().split()

    def left(self) -> tuple[int, dict[JobStatus, int]]:
        """Rows of the outbox, and the engine's jobs."""
        rows = db.session.scalar(select(func.count()).select_from(_outbox()))
        db.session.rollback()
        return rows or 0, offload.engine.count()

    def _is_quiet(self) -> bool:
        rows, jobs = self.left()
        return not rows and jobs[JobStatus.SUCCESSFUL] == len(RAN)


def _outbox() -> Any:
    return db.metadata.tables["offload_outbox"]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _crash_and_sweep(site: OrderSite) -> None:
    with site.opened():
        db.create_all()
        site.order()
        assert db.session.scalar(select(func.count()).select_from(Order)) == 2
        rows, jobs = site.left()
        assert rows == 6
        assert sum(jobs.values()) == 3  # those that were relayed, and whose rows were not deleted
    ran = site.sweep()
    assert sorted(ran) == sorted(RAN)
    for name in ("relayed", "killed"):
        assert [word for word in ran if word.startswith(name)] == [f"{name}{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("server", ["sqlite", "postgres"], indirect=True, scope="module")
def test_the_worker_relays_what_a_killed_web_process_left(database: str, tmp_path: Path) -> None:
    _crash_and_sweep(OrderSite(tmp_path, database))


def test_so_does_a_celery_worker_on_redis(redis: Server, tmp_path: Path) -> None:
    _crash_and_sweep(_celery_site(tmp_path, redis, redis))


def test_so_does_a_celery_worker_on_rabbitmq(redis: Server, rabbit: Server, tmp_path: Path) -> None:
    _crash_and_sweep(_celery_site(tmp_path, rabbit, redis))


def _celery_site(folder: Path, broker: Server, records: Server) -> OrderSite:
    return OrderSite(
        folder,
        f"sqlite:///{folder / 'app.sqlite3'}",
        OFFLOAD_ENGINE="celery",
        CELERY={"broker_url": broker.url},
        OFFLOAD_CELERY_RECORDS=records.url,
        OFFLOAD_CELERY_PREFIX=f"{uuid.uuid4().hex[:8]}:",
    )
