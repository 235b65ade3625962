"""A reader's program: imported, sent requests, and given a worker."""

from __future__ import annotations

import json
import os
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
from flask_offload.engine_api import JobQuery
from flask_offload.testing import BlockingCall, no_blocking

from ..mailserver import MailServer, Pace

MAX_MS = 500.0
"""Milliseconds that a request may take."""

PATIENCE = 20.0
"""Seconds until the worker is ready, and until it has run the job."""

QUICK = Pace(greeting=0.05, recipient=0.02, content=(0.8, 0.8))
"""Slow enough for the gate's limit, quick enough for a reader who tries often."""

GATE_PASSED = "The gate found nothing that blocks."


class StepFailed(Exception):
    """A step that failed, and why."""


class Submission:
    """The program in the current folder. module: its name, as `flask --app` takes it."""

    def __init__(self, module: str, mail: MailServer) -> None:
        self.mail = mail
        self.module = module
        try:
            self.app: Flask = ScriptInfo(app_import_path=module).load_app()
        except (Exception, SystemExit) as error:
            raise StepFailed(f"It cannot be imported. {type(error).__name__}: {error}") from None
        if "offload" not in self.app.extensions:
            raise StepFailed(
                "The app has no Flask-Offload yet: from flask_offload import Offload, and"
                " offload = Offload(app)."
            )
        self.offload: Offload = self.app.extensions["offload"]
        self.app.config["PROPAGATE_EXCEPTIONS"] = True

    def post(
        self, path: str, *, events: bool = True, allow: Sequence[str] = (), **data: Any
    ) -> TestResponse:
        """One request, under the gate. events: whether files and connections count, too.

        allow: which calls the gate ignores.
        """
        try:
            with no_blocking(max_ms=MAX_MS, events=events, allow=allow):
                response = self.app.test_client().post(path, data=data)
        except BlockingCall as blocking:
            raise StepFailed(f"The gate: {blocking}") from None
        except Exception as error:
            raise StepFailed(f"The route fails. {type(error).__name__}: {error}") from None
        if response.status_code >= 400:
            raise StepFailed(f"POST {path} answers {response.status}.")
        return response

    def job(self) -> Job:
        """The latest job, when it has succeeded."""
        with self.app.app_context():
            records = self.offload.engine.list(JobQuery(limit=1))
            if not records:
                raise StepFailed(
                    "The answer came at once, but there is no job: if the server restarts now, the"
                    " work is lost, and no error is logged."
                )
            job = self.offload.get_job(records[0].id).wait(PATIENCE)
            if job.status is not JobStatus.SUCCESSFUL:
                why = f"{job.error.type}: {job.error.message}" if job.error else str(job.status)
                raise StepFailed(f"The worker ran the job, and it failed. {why}")
            return job

    def expect_mail_to(self, address: str) -> None:
        """Raise StepFailed unless one mail has arrived, at this address."""
        if [mail.recipient for mail in self.mail.mails] != [address]:
            raise StepFailed("The job ended, and the mail did not arrive.")

    def has_worker(self) -> bool:
        """Whether a worker serves the program's jobs."""
        result = self.app.test_cli_runner().invoke(args=["offload", "check", "--json"])
        findings = json.loads(result.stdout)["findings"]
        return any(each["check"] == "worker" and each["level"] == "ok" for each in findings)


def expect(good: bool, otherwise: str) -> None:
    """Raise StepFailed, with the reason, unless it is good."""
    if not good:
        raise StepFailed(otherwise)


@contextmanager
def surroundings(folder: Path) -> Iterator[MailServer]:
    """A mail server, a database of members, and the settings, in the environment."""
    with MailServer(QUICK) as server:
        os.environ |= {
            "SMTP_PORT": str(server.port),
            "MEMBERS": str(folder / "members.sqlite3"),
            "FLASK_OFFLOAD_ENGINE": "sqlite",  # on any engine of the lab: it needs only a folder
            "FLASK_OFFLOAD_WORKER": "off",
            "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "offload-check.sqlite3"),
        }
        db = sqlite3.connect(os.environ["MEMBERS"])
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT)")
        db.close()
        (folder / "instance").mkdir(exist_ok=True)
        yield server


@contextmanager
def worker(submission: Submission, folder: Path) -> Iterator[None]:
    """A worker of the program, ready when the block begins. Raises StepFailed if it fails."""
    command = [sys.executable, "-m", "flask", "--app", submission.module, "offload", "worker"]
    path = folder / "worker.log"
    with path.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while not submission.has_worker():
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = path.read_text(errors="replace").strip().splitlines()
                    raise StepFailed(f"The worker cannot start. {lines[-1] if lines else ''}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait()
