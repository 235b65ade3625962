"""A folder with a job database, an app on it in this process, real workers and servers for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from flask import Flask

from flask_offload import Offload
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.sqlite.recovery import live_workers
from flask_offload.engines.store import WorkerInfo
from jobs_app import create_app, offload
from support import APP_PATH, Running, answers, free_port, running, wait_until


class Site:
    """One database and one witness file, with the tasks of jobs_app."""

    def __init__(self, folder: Path, app: Flask) -> None:
        self.folder = folder
        self.app = app
        self.offload: Offload = offload
        self.database = folder / "jobs.sqlite3"
        self.witness_file = folder / "witness"
        self.env = {
            "FLASK_OFFLOAD_SQLITE_PATH": str(self.database),
            "WITNESS": str(self.witness_file),
            "PYTHONPATH": APP_PATH,
        }

    @property
    def engine(self) -> SqliteEngine:
        engine = self.offload.state_of(self.app).engine
        assert isinstance(engine, SqliteEngine)
        return engine

    def witnessed(self) -> list[str]:
        """The lines that tasks have written so far."""
        return self.witness_file.read_text().splitlines() if self.witness_file.exists() else []

    def wait_for_witness(self, start: str, times: int = 1, timeout: float = 20.0) -> list[str]:
        """Wait for so many lines that begin with `start`."""

        def found() -> list[str]:
            lines = [line for line in self.witnessed() if line.startswith(start)]
            return lines if len(lines) >= times else []

        return wait_until(found, timeout, lambda: f"{times} x {start!r} in {self.witnessed()}")

    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive."""
        return live_workers(self.engine)

    def command(self, *arguments: str) -> list[str]:
        """A `flask offload` command on this site's app."""
        return [sys.executable, "-m", "flask", "--app", "jobs_app", "offload", *arguments]

    def worker(self, *arguments: str, **env: str) -> AbstractContextManager[Running]:
        """A real worker, up and registered."""
        before = {worker.id for worker in self.workers()}
        return running(
            self.command("worker", *arguments),
            env={**self.env, **env},
            cwd=self.folder,
            ready=lambda _: {worker.id for worker in self.workers()} - before,
        )

    def burst(self, *arguments: str, **env: str) -> Running:
        """A worker that runs what there is and ends; it has ended when this returns."""
        with running(
            self.command("worker", "--burst", *arguments),
            env={**self.env, **env},
            cwd=self.folder,
        ) as process:
            assert process.wait(60) == 0, str(process)
        return process

    @contextmanager
    def gunicorn(self, *arguments: str, **env: str) -> Iterator[tuple[str, Running]]:
        """gunicorn serving the app; gives its URL and the process."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with running(
            [
                *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
                *("--graceful-timeout", "5", *arguments, "jobs_app:create_app()"),
            ],
            env={**self.env, **env},
            cwd=self.folder,
            ready=lambda _: answers(f"{url}/"),
        ) as process:
            yield url, process


@contextmanager
def make_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site in `folder`, with an app context pushed."""
    app = create_app(OFFLOAD_SQLITE_PATH=str(folder / "jobs.sqlite3"), OFFLOAD_WORKER="off")
    site = Site(folder, app)
    monkeypatch.setenv("WITNESS", str(site.witness_file))
    with app.app_context():
        yield site
    site.engine.close()
