"""The contract app on PostgreSQL, with worker processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contract_app import create_app
from flask_offload import Job
from flask_offload.admin.postgres import PostgresEngine
from support import APP_PATH, Running, running


class Site:
    """The contract app on PostgreSQL, with worker processes."""

    def __init__(self, folder: Path, url: str, **config: str) -> None:
        self.folder = folder
        self.journal_file = folder / "journal"
        self.settings = {
            "OFFLOAD_ENGINE": "postgres",
            "OFFLOAD_POSTGRES_URL": url,
            "OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            "OFFLOAD_WORKER": "off",
            "JOURNAL": str(self.journal_file),
            **config,
        }
        self.app = create_app(**self.settings)
        self.offload = self.app.extensions["offload"]

    def enqueue(self, task: str, *arguments: object) -> Job:
        job: Job = self.offload.tasks[f"contract_app.{task}"].enqueue(*arguments)
        return job

    def lines(self) -> list[str]:
        return self.journal_file.read_text().splitlines() if self.journal_file.exists() else []

    @contextmanager
    def worker(
        self, on_host: Callable[[list[str]], list[str]] = list, **env: str
    ) -> Iterator[Running]:
        """on_host: the command that runs these words on a host."""
        environment = {f"FLASK_{name}": value for name, value in self.settings.items()}
        command = ["-m", "flask", "--app", "contract_app", "offload", "worker", "--threads", "4"]
        with running(
            on_host([sys.executable, *command]),
            env={**environment, "PYTHONPATH": APP_PATH, **env},
            cwd=self.folder,
        ) as process:
            yield process

    @property
    def engine(self) -> PostgresEngine:
        """The app's."""
        engine = self.offload.state_of(self.app).engine
        assert isinstance(engine, PostgresEngine)
        return engine

    def workers(self) -> int:
        """How many are registered."""
        rows = self.engine.database.read(
            lambda connection: connection.execute("SELECT id FROM offload.workers").fetchall()
        )
        return len(rows)


@contextmanager
def opened_site(folder: Path, url: str, **config: str) -> Iterator[Site]:
    """The tables are there; the block is inside an app context."""
    made = Site(folder, url, **config)
    engine = made.offload.state_of(made.app).engine
    try:
        with made.app.app_context():
            engine.migrate()
            yield made
    finally:
        engine.close()
