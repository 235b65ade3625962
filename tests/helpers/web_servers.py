"""web_app in this process, with a real worker beside it that runs its jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_offload import Job
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.sqlite.recovery import live_workers
from support import APP_PATH, Running, free_port, http_get, listening, running, wait_until
from web_app import create_app, offload


@dataclass
class WebSite:
    """The app, its worker's environment, and the gates that its tasks wait for."""

    folder: Path
    app: Flask
    env: dict[str, str]

    def open(self, *gates: str) -> None:
        """Let what waits at these gates go on, now and later."""
        for gate in gates:
            (self.folder / gate).touch()

    @property
    def engine(self) -> SqliteEngine:
        engine = offload.state_of(self.app).engine
        assert isinstance(engine, SqliteEngine)
        return engine

    def job(self, job_id: str) -> Job:
        """The job, read anew."""
        with self.app.app_context():
            return offload.get_job(job_id)

    @contextmanager
    def worker(self) -> Iterator[Running]:
        """A real worker; up when the block begins."""
        with running(
            [sys.executable, "-m", "flask", "--app", "web_app", "offload", "worker"],
            env=self.env,
            cwd=self.folder,
            ready=lambda _: live_workers(self.engine),
        ) as process:
            yield process

    @contextmanager
    def gunicorn(self, *arguments: str, port: int | None = None, **env: str) -> Iterator[str]:
        """The app behind gunicorn's sync worker; gives its origin."""
        port = port or free_port()
        origin = f"http://127.0.0.1:{port}"
        with running(
            [
                *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
                *(
                    "--no-control-socket",
                    "--graceful-timeout",
                    "1",
                    *arguments,
                    "web_app:create_app()",
                ),
            ],
            env={**self.env, **env},
            cwd=self.folder,
            ready=lambda _: listening(port) and http_get(f"{origin}/").status == 200,
        ):
            yield origin


def make_web_site(folder: Path, **config: Any) -> WebSite:
    """A site whose database and gates lie in `folder`; nothing runs yet."""
    env = {
        "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
        "FLASK_OFFLOAD_WORKER": "off",
        "GATES": str(folder),
        "PYTHONPATH": APP_PATH,
    }
    app = create_app(
        OFFLOAD_SQLITE_PATH=env["FLASK_OFFLOAD_SQLITE_PATH"], OFFLOAD_WORKER="off", **config
    )
    return WebSite(folder, app, env)


@contextmanager
def client_of(site: WebSite) -> Iterator[FlaskClient]:
    """A client of the app, for one test."""
    yield site.app.test_client()
    site.engine.close()


def location(response: TestResponse) -> str:
    """Where an answer leads, without the host, like the links of a job."""
    assert response.status_code in (202, 302, 303), response.get_data(as_text=True)
    return urlsplit(response.headers["Location"])._replace(scheme="", netloc="").geturl()


def poll_until(
    client: FlaskClient, url: str, *statuses: str, summary: str | None = None
) -> dict[str, Any]:
    """Ask until the job has one of these statuses, and this summary; its document."""
    seen: dict[str, Any] = {}

    def reached() -> bool:
        response = client.get(url, query_string={"status": ""})
        assert response.status_code == 200, response.get_data(as_text=True)
        seen.update(response.get_json())
        return seen["status"] in statuses and summary in (None, seen["summary"])

    wait_until(reached, 20, lambda: f"{statuses} {summary or ''}, but {seen}")
    return seen
