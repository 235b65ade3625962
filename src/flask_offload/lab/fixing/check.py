"""Runs what the reader has put together, in a folder and processes of its own.

`python -m flask_offload.lab.fixing.check KEY`, in a folder with the program as `answer.py`; prints
a step per line as JSON. The gate is the one for tests, the worker is a real one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from ... import Job, JobStatus, Offload
from ...engines.base import JobQuery
from ...evidence.gate import BlockingCall, no_blocking
from ..mailserver import MailServer, Pace
from ..photo import SAMPLE

MAX_MS = 500.0
"""Milliseconds that the request may take."""

PATIENCE = 15.0
"""Seconds until the worker is up, and until it has done the job."""

QUICK = Pace(greeting=0.05, recipient=0.02, content=(0.8, 0.8))
"""Slow enough for the gate's clock, quick enough for a reader who tries often."""


class Wrong(Exception):
    """A step that failed, and why."""


class Answer:
    """The reader's program, imported and ready to be asked."""

    def __init__(self, mail: MailServer) -> None:
        self.mail = mail
        try:
            module = importlib.import_module("answer")
        except Exception as error:
            raise Wrong(f"It cannot be imported. {type(error).__name__}: {error}") from None
        self.app: Flask = module.app
        self.offload: Offload = self.app.extensions["offload"]
        self.app.testing = False
        self.app.config["PROPAGATE_EXCEPTIONS"] = True

    def post(self, path: str, **data: Any) -> TestResponse:
        """One request, under the gate."""
        try:
            with no_blocking(max_ms=MAX_MS, events=True):
                return self.app.test_client().post(path, data=data)
        except BlockingCall as blocking:
            raise Wrong(f"The gate: {blocking}") from None
        except Exception as error:
            raise Wrong(f"The route fails. {type(error).__name__}: {error}") from None

    def job(self) -> Job:
        """The one job that the request has made, as soon as it has ended."""
        with self.app.app_context():
            records = self.offload.engine.list(JobQuery())
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

    def mail_to(self, name: str) -> None:
        """The mail must be there."""
        if [mail.recipient for mail in self.mail.mails] != [f"{name}@visitors.example"]:
            raise Wrong("The job ended, and the mail did not arrive.")


def mail(answer: Answer) -> Iterator[str]:
    """Challenge 1."""
    response = answer.post("/join", name="ada")
    yield "The gate saw nothing that blocks."
    _expect(response.status_code == 200, "The page should say welcome, as before.")
    answer.job()
    yield "The call is on disk, and a real worker has run it."
    answer.mail_to("ada")
    yield "The mail has arrived."


def portraits(answer: Answer) -> Iterator[str]:
    """Challenge 2."""
    with SAMPLE.open("rb") as photo:
        response = answer.post("/portraits", photo=(photo, "portrait.jpg"))
    yield "The gate saw nothing that blocks."
    _expect(
        response.status_code == 202 and "Location" in response.headers,
        f"It answered {response.status_code}: {response.text.strip()[:80]!r}. At that moment not"
        " one portrait was finished. Say what is true: accepted, and where to look.",
    )
    yield f"It answered 202, and told where to look: {response.headers['Location'][:24]}…"
    job = answer.job()
    _expect(
        job.progress is not None and job.progress.total == 5,
        "The portraits are made, but the visitor saw nothing of it until the end: the job never"
        " said how far it was.",
    )
    yield "The worker has made five portraits, and said how far it was."


def commit(answer: Answer) -> Iterator[str]:
    """Challenge 3."""
    response = answer.post("/join", name="grace")
    yield "The gate saw nothing that blocks."
    _expect(response.status_code == 200, "The page should say welcome, as before.")
    answer.job()
    yield "The worker found the member, though the disk was slow."
    answer.mail_to("grace")
    yield "The mail has arrived."


CHECKS: dict[str, Callable[[Answer], Iterator[str]]] = {
    "mail": mail,
    "portraits": portraits,
    "commit": commit,
}


def _expect(good: bool, otherwise: str) -> None:
    if not good:
        raise Wrong(otherwise)


@contextmanager
def _surroundings(folder: Path) -> Iterator[MailServer]:
    """Mail server, database of members, instance folder, worker."""
    with MailServer(QUICK) as server:
        os.environ |= {
            "SMTP_PORT": str(server.port),
            "MEMBERS": str(folder / "members.sqlite3"),
            "FLASK_OFFLOAD_WORKER": "off",
            "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
        }
        db = sqlite3.connect(os.environ["MEMBERS"])
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT)")
        db.close()
        (folder / "instance").mkdir()
        yield server


@contextmanager
def _worker(folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "flask", "--app", "answer", "offload", "worker"]
    log = (folder / "worker.log").open("wb")
    worker = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not any((folder / "jobs.sqlite3-run").glob("*.bell")):
            if worker.poll() is not None or time.monotonic() > deadline:
                said = (folder / "worker.log").read_text().strip().splitlines()
                raise Wrong(f"The worker cannot start: {said[-1] if said else 'it says nothing'}")
            time.sleep(0.01)
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        log.close()


def _say(good: bool, text: str) -> None:
    print(json.dumps({"good": good, "text": text}), flush=True)


def main(key: str) -> None:
    """Check the answer in the current folder."""
    folder = Path.cwd()
    sys.path.insert(0, str(folder))
    with _surroundings(folder) as server:
        try:
            answer = Answer(server)
            with _worker(folder):
                for text in CHECKS[key](answer):
                    _say(True, text)
        except Wrong as wrong:
            _say(False, str(wrong))
            return
    _say(True, "Solved.")


if __name__ == "__main__":
    main(sys.argv[1])
