"""Engines on a stage: what the contract suite needs to try an engine, whatever it is.

To put another engine under contract, write a Stage for it and add it to STAGES.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from flask import Flask

from contract_app import create_app
from flask_offload import Job, Offload, Task
from flask_offload.engines.base import Engine, Flags, JobQuery
from flask_offload.testing import drain
from postgres_server import shared_server
from support import APP_PATH, Running, not_promised, running


class Stage(ABC):
    """The contract app on one engine, with an empty store and no worker."""

    config: ClassVar[dict[str, Any]]
    """Configuration that chooses the engine."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.journal_file = folder / "journal"
        self.settings = {
            **self.config,
            "OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            "OFFLOAD_WORKER": "off",
            "JOURNAL": str(self.journal_file),
            **config,
        }
        self.app: Flask = create_app(**self.settings)
        self.offload: Offload = self.app.extensions["offload"]
        self.engine: Engine = self.offload.state_of(self.app).engine
        self.flags: Flags = self.engine.flags

    @classmethod  # noqa: B027 (most engines share nothing)
    def prepare(cls) -> None:
        """Start what all tests of this engine share."""

    def needs(self, flag: str) -> None:
        """Skip the test if the engine does not promise this."""
        if not getattr(self.flags, flag):
            not_promised(f"{type(self).__name__} has no flag {flag!r}")

    def task(self, name: str) -> Task[..., Any]:
        """A task of the contract app."""
        return self.offload.tasks[f"contract_app.{name}"]

    def job(self, job_id: str) -> Job:
        """A job as it stands now."""
        return self.offload.get_job(job_id)

    def jobs(self, **query: Any) -> list[str]:
        """The ids of the jobs that the engine lists."""
        return [record.id for record in self.engine.list(JobQuery(**query))]

    def done(self, *jobs: Job) -> list[Job]:
        """Let a worker do its work, then read these jobs anew."""
        self.work()
        return [job.refresh() for job in jobs]

    def journal(self) -> list[str]:
        """What tasks have written."""
        return self.journal_file.read_text().splitlines() if self.journal_file.exists() else []

    @abstractmethod
    def work(self, *, threads: int = 4) -> None:
        """Let a worker run all that can run now; it is gone when this returns."""

    @abstractmethod
    @contextmanager
    def worker(self) -> Iterator[Running]:
        """A worker that stays until the block ends."""

    def close(self) -> None:
        """Let go of connections."""
        self.engine.close()


class WorkerStage(Stage):
    """An engine whose jobs our own worker runs, with real worker processes."""

    def work(self, *, threads: int = 4) -> None:
        with self._run("--burst", "--threads", str(threads)) as process:
            assert process.wait(60) == 0, str(process)

    @contextmanager
    def worker(self) -> Iterator[Running]:
        with self._run("--threads", "4") as process:
            yield process

    @contextmanager
    def _run(self, *arguments: str) -> Iterator[Running]:
        environment = {f"FLASK_{name}": str(value) for name, value in self.settings.items()}
        command = [sys.executable, "-m", "flask", "--app", "contract_app", "offload", "worker"]
        with running(
            [*command, *arguments],
            env={**environment, "PYTHONPATH": APP_PATH},
            cwd=self.folder,
        ) as process:
            yield process


class SqliteStage(WorkerStage):
    """The embedded engine."""

    config: ClassVar[dict[str, Any]] = {"OFFLOAD_ENGINE": "sqlite"}


class PostgresStage(WorkerStage):
    """The PostgreSQL engine, with a database of its own on this process's server."""

    config: ClassVar[dict[str, Any]] = {"OFFLOAD_ENGINE": "postgres"}

    def __init__(self, folder: Path, **config: Any) -> None:
        self._stack = ExitStack()
        url = self._stack.enter_context(shared_server().database())
        super().__init__(folder, **{"OFFLOAD_POSTGRES_URL": url, **config})

    @classmethod
    def prepare(cls) -> None:
        shared_server()

    def close(self) -> None:
        super().close()
        self._stack.close()


class InlineStage(Stage):
    """The inline engine, which is its own worker."""

    config: ClassVar[dict[str, Any]] = {"OFFLOAD_ENGINE": "inline"}

    def work(self, *, threads: int = 4) -> None:
        drain(self.app)

    @contextmanager
    def worker(self) -> Iterator[Running]:
        not_promised("the inline engine has no worker process")
        yield  # pragma: no cover (the line above raises)


STAGES: dict[str, type[Stage]] = {
    "sqlite": SqliteStage,
    "postgres": PostgresStage,
    "inline": InlineStage,
}
