"""A failed job reaches what the app has for errors: handlers of app.logger, Sentry, receivers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from flask_offload import Offload, signals
from flask_offload.engine_api import Claim, Outcome

APP = """
import json, logging, os
import sentry_sdk
from sentry_sdk.integrations.flask import FlaskIntegration
from flask import Flask
from flask_offload import Offload

class ToFile(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        if (event := envelope.get_event()) is not None:
            with open("events", "a") as file:
                file.write(json.dumps(event, default=str) + chr(10))

sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1",
    transport=ToFile,
    auto_enabling_integrations=False,
    integrations=[FlaskIntegration()] if os.environ["WITH_FLASK"] else [],
)

class Mails(logging.FileHandler):  # like SMTPHandler: for errors, on app.logger
    pass

def create_app():
    app = Flask("logged")
    app.config.from_prefixed_env()
    mails = Mails("mails", delay=True)
    mails.setLevel(logging.ERROR)
    mails.setFormatter(logging.Formatter("MAIL %(name)s %(job_id)s %(message)s"))
    app.logger.addHandler(mails)
    offload.init_app(app)
    return app

offload = Offload()

def lookup(key):
    return {}[key]

@offload.task
def fails(key):
    lookup(key)

@offload.task(isolate=True)
def fails_alone(key):
    lookup(key)

@offload.task(max_attempts=2, backoff=0.0)
def fails_twice(key):
    lookup(key)
"""


@pytest.mark.processes
@pytest.mark.parametrize("with_flask", ["", "1"], ids=["plain", "flask"])
def test_mail_handlers_and_sentry_get_a_failure_once_with_the_app_s_frames(
    tmp_path: Path, with_flask: str
) -> None:
    (tmp_path / "logged.py").write_text(APP)
    env = {
        **os.environ,
        "WITH_FLASK": with_flask,
        "FLASK_OFFLOAD_SQLITE_PATH": str(tmp_path / "jobs.sqlite3"),
    }
    enqueue = (
        "from logged import *; app = create_app(); app.app_context().push();"
        "print(fails.enqueue('k').id, fails_alone.enqueue('k').id, fails_twice.enqueue('k').id)"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    jobs = run("-c", enqueue).stdout.split()
    worker = run("-m", "flask", "--app", "logged", "offload", "worker", "--burst")

    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert sorted(event["tags"]["job_id"] for event in events) == sorted(jobs), worker.stderr
    names = {"logged.fails", "logged.fails_alone", "logged.fails_twice"}
    assert {event["tags"]["task"] for event in events} == names
    for event in events:
        (error,) = event["exception"]["values"]
        assert error["type"] == "KeyError"
        frames = error["stacktrace"]["frames"]
        assert [frame["function"] for frame in frames][-1] == "lookup"
        assert frames[0]["module"] == "logged"
        assert event["logger"] == f"flask_offload.task.{event['tags']['task']}"

    mails = (tmp_path / "mails").read_text()
    assert mails.count("MAIL flask_offload.task.logged.") == len(jobs)
    assert mails.count("KeyError: 'k'\n") >= len(jobs)
    assert mails.count("in lookup") == len(jobs)
    for job in jobs:
        assert f" {job} " in mails
        assert worker.stderr.count(f"{job} of ") >= 1


def test_the_exception_is_with_the_signal_while_it_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("inline_app")
    app.config.update(OFFLOAD_ENGINE="inline", OFFLOAD_SPOT=False)
    offload = Offload(app)
    raised = ValueError("line\nof its own")

    @offload.task
    def fails() -> None:
        raise raised

    seen: list[object] = []
    outcomes: list[Outcome] = []

    def receiver(sender: object, claim: Claim, outcome: Outcome) -> None:
        seen.append(outcome.exception)
        outcomes.append(outcome)

    records: list[logging.LogRecord] = []

    class Mails(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Mails(logging.ERROR)
    app.logger.addHandler(handler)
    try:
        with app.app_context(), signals.failed.connected_to(receiver):
            fails.enqueue()
    finally:
        app.logger.removeHandler(handler)
    assert seen == [raised]
    assert [outcome.exception for outcome in outcomes] == [None]
    (record,) = records
    assert record.exc_info is not None
    assert record.exc_info[1] is raised
    trace = record.exc_info[2]
    assert trace is not None
    assert trace.tb_frame.f_code.co_filename == __file__  # not a frame of Flask-Offload
    logged = [r for r in caplog.records if r.name.startswith("flask_offload.task.")]
    assert logged == [record]


def test_an_exception_that_no_handler_can_show_ends_the_attempt_all_the_same(
    tmp_path: Path,
) -> None:
    app = Flask("odd_app")
    app.config.update(OFFLOAD_ENGINE="inline", OFFLOAD_SPOT=False)
    offload = Offload(app)

    class Mails(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise SystemExit

    handler = Mails()
    app.logger.addHandler(handler)
    try:
        with app.app_context():

            @offload.task
            def fails() -> None:
                raise ValueError

            assert str(fails.enqueue().status) == "FAILED"
    finally:
        app.logger.removeHandler(handler)
