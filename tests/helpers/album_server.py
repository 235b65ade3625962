"""The example app in `examples/album`, served and worked by real processes, on any engine.

Nothing but its environment says which.
"""

from __future__ import annotations

import sqlite3
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from album import create_app
from album.extensions import db, offload
from brokers import Server
from flask_offload.engines.base import Engine
from flask_offload_lab.mailserver import PROMPT, MailServer
from support import Response, Running, free_port, http_get, http_request, listening, running

FOLDER = Path(__file__).parents[2] / "examples" / "album"
FLASK = (sys.executable, "-m", "flask", "--app", "album")


def celery_settings(records: Server, broker: Server) -> dict[str, str]:
    """Environment variables that put an app on Celery; on servers that others use too."""
    return {
        "FLASK_OFFLOAD_ENGINE": "celery",
        "FLASK_CELERY__broker_url": broker.url,
        "FLASK_OFFLOAD_CELERY_RECORDS": records.url,
        "FLASK_OFFLOAD_CELERY_PREFIX": f"{uuid.uuid4().hex[:8]}:",
    }


@dataclass
class AlbumSite:
    """app: the same app in this process, as an operator's shell has it."""

    app: Flask
    origin: str
    folder: Path
    mail: MailServer
    processes: list[Running] = field(default_factory=list)

    @property
    def log(self) -> str:
        """What its processes say."""
        return "\n".join(map(str, self.processes))

    @property
    def engine(self) -> Engine:
        return offload.state_of(self.app).engine

    def post(self, path: str, form: dict[str, str]) -> Response:
        """Send a form."""
        return http_request("POST", self.origin + path, form=form, timeout=30)

    def send_photo(self, path: str, data: bytes) -> Response:
        """Send a form with a photo."""
        head = b'--edge\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        body = head + data + b"\r\n--edge--\r\n"
        return http_request("POST", self.origin + path, body=body, headers=headers, timeout=30)

    def get(self, path: str) -> Response:
        """A page."""
        return http_get(self.origin + path)

    def job_of(self, photo_id: int) -> Any:
        """The job resource of a photo's job."""
        with sqlite3.connect(self.folder / "album.sqlite3") as database:
            [(job_id,)] = database.execute("SELECT job_id FROM photo WHERE id = ?", [photo_id])
        database.close()
        return http_get(f"{self.origin}/offload/jobs/{job_id}").json()

    def command(self, *words: str) -> str:
        """What a command prints; it must succeed."""
        result = self.app.test_cli_runner().invoke(args=words)
        assert result.exit_code == 0, result.output
        return result.output


@contextmanager
def album_server(
    folder: Path, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[AlbumSite]:
    """The album on the engine that `settings` (environment variables) choose, with a mail server;
    and with a worker, unless the web process keeps one or the engine has none."""
    with ExitStack() as stack:
        mail = stack.enter_context(MailServer(PROMPT))
        port = free_port()
        places = {
            "FLASK_ALBUM_FOLDER": str(folder),
            "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/album.sqlite3",
            "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            "FLASK_MAIL_PORT": str(mail.port),
        }
        for name, value in (settings | places).items():
            monkeypatch.setenv(name, value)
        app = create_app()
        site = AlbumSite(app, f"http://127.0.0.1:{port}", folder, mail)
        stack.callback(site.engine.close)
        with app.app_context():
            stack.callback(db.engine.dispose)
        site.command("init-db")
        flags = site.engine.flags
        if flags.worker_command and not flags.own_worker:
            worker = stack.enter_context(running([*FLASK, "offload", "worker"], cwd=FOLDER))
            stack.callback(worker.kill_family)  # Celery's pool takes long to say goodbye
            site.processes.append(worker)
        web = running(
            [*FLASK, "run", "--port", str(port)], cwd=FOLDER, ready=lambda _: listening(port)
        )
        site.processes.append(stack.enter_context(web))
        yield site
