"""A reader's program, imported, asked, and given a worker."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask.cli import ScriptInfo
from werkzeug.test import TestResponse

from flask_offload import Job, JobStatus, Offload
from flask_offload.engines.base import JobQuery
from flask_offload.profiler.gate import BlockingCall, no_blocking

from ..mailserver import MailServer, Pace

MAX_MS = 500.0
"""Milliseconds that a request may take."""

PATIENCE = 20.0
"""Seconds until the worker is up, and until it has done the job."""

QUICK = Pace(greeting=0.05, recipient=0.02, content=(0.8, 0.8))
"""Slow enough for the gate's clock, quick enough for a reader who tries often."""

DATABASE = "offload-check.sqlite3"


class Wrong(Exception):
    """A step that failed, and why."""


class Answer:
    """The program in the current folder. module: its name, as `flask --app` takes it."""

    def __init__(self, module: str, mail: MailServer) -> None:
        self.mail = mail
        self.module = module
        try:
            self.app: Flask = ScriptInfo(app_import_path=module).load_app()
        except (Exception, SystemExit) as error:
            raise Wrong(f"It cannot be imported. {type(error).__name__}: {error}") from None
        if "offload" not in self.app.extensions:
            raise Wrong(
                "The app has no Flask-Offload yet: from flask_offload import Offload, and"
                " offload = Offload(app)."
            )
        self.offload: Offload = self.app.extensions["offload"]
        self.app.config["PROPAGATE_EXCEPTIONS"] = True

    def post(
        self, path: str, *, events: bool = True, allow: Sequence[str] = (), **data: Any
    ) -> TestResponse:
        """One request, under the gate. events: whether files and connections count, too.

        allow: what the gate lets pass.
        """
        try:
            with no_blocking(max_ms=MAX_MS, events=events, allow=allow):
                response = self.app.test_client().post(path, data=data)
        except BlockingCall as blocking:
            raise Wrong(f"The gate: {blocking}") from None
        except Exception as error:
            raise Wrong(f"The route fails. {type(error).__name__}: {error}") from None
        if response.status_code >= 400:
            raise Wrong(f"POST {path} answers {response.status}.")
        return response

    def job(self) -> Job:
        """The latest job, as soon as it has ended well."""
        with self.app.app_context():
            records = self.offload.engine.list(JobQuery(limit=1))
            if not records:
                raise Wrong(
                    "The answer came at once, but nothing was written down: a restart now, and the"
                    " work is lost. Nobody would know."
                )
            job = self.offload.get_job(records[0].id).wait(PATIENCE)
            if job.status is not JobStatus.SUCCESSFUL:
                why = f"{job.error.type}: {job.error.message}" if job.error else str(job.status)
                raise Wrong(f"The worker was given the job, and it failed. {why}")
            return job

    def mail_to(self, address: str) -> None:
        """The mail must be there, once."""
        if [mail.recipient for mail in self.mail.mails] != [address]:
            raise Wrong("The job ended, and the mail did not arrive.")


def expect(good: bool, otherwise: str) -> None:
    """Raise Wrong, with the reason, unless it is good."""
    if not good:
        raise Wrong(otherwise)


@contextmanager
def surroundings(folder: Path) -> Iterator[MailServer]:
    """A mail server, a database of members, and where the jobs go; told by the environment."""
    with MailServer(QUICK) as server:
        os.environ |= {
            "SMTP_PORT": str(server.port),
            "MEMBERS": str(folder / "members.sqlite3"),
            "FLASK_OFFLOAD_ENGINE": "sqlite",  # whatever the lab runs on: it needs only a folder
            "FLASK_OFFLOAD_WORKER": "off",
            "FLASK_OFFLOAD_SQLITE_PATH": str(folder / DATABASE),
        }
        db = sqlite3.connect(os.environ["MEMBERS"])
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT)")
        db.close()
        (folder / "instance").mkdir(exist_ok=True)
        yield server


@contextmanager
def worker(module: str, folder: Path) -> Iterator[None]:
    """A worker of the program's own, ready when the block begins. Raises Wrong if it fails."""
    command = [sys.executable, "-m", "flask", "--app", module, "offload", "worker"]
    path = folder / "worker.log"
    with path.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not any((folder / f"{DATABASE}-run").glob("*.bell")):
                if process.poll() is not None or time.monotonic() > deadline:
                    said = path.read_text(errors="replace").strip().splitlines()
                    raise Wrong(f"The worker cannot start. {said[-1] if said else ''}")
                time.sleep(0.01)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
