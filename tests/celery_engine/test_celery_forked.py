"""A process that is forked after the app was made has connections and programs of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.pool import QueuePool

from flask_offload import Offload, signals
from flask_offload.engine_api import Claim, Ending, Outcome
from flask_offload_celery.forked import prepare_process
from flask_offload_celery.isolation import run_isolated
from support import wait_until

pytestmark = pytest.mark.processes


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask(__name__)
    app.testing = True
    app.config.update(
        OFFLOAD_SQLITE_PATH=tmp_path / "jobs.sqlite3",
        OFFLOAD_SPOT=False,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'app.sqlite3'}",
        SQLALCHEMY_ENGINE_OPTIONS={"poolclass": QueuePool},
    )
    Offload(app)
    return app


def claim() -> Claim:
    return Claim(*(1, "j", "t", "q", "", 0, 1, 0, 0, "fail", None, "", 0.0, 0.0, "[]", None, None))


def done(result: str) -> Outcome:
    return Outcome(1, 1, Ending.SUCCESSFUL, 0.0, 1.0, result=result)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_does_not_use_its_parent_s_connections(app: Flask) -> None:
    db = SQLAlchemy(app)
    heard: list[Flask] = []
    signals.worker_process_started.connect(lambda sender: heard.append(sender), weak=False)
    with app.app_context():
        db.session.execute(text("select 1"))
        db.session.remove()
        assert db.engine.pool.checkedin() == 1  # type: ignore[attr-defined]

        def work() -> Outcome:
            pooled = db.engine.pool.checkedin()  # type: ignore[attr-defined]
            return done(f"{pooled} {len(heard)} {os.getpgrp() == os.getpid()}")

        assert run_isolated(work, claim(), lambda: 1.0, app).result == "0 1 True"
        assert db.engine.pool.checkedin() == 1  # type: ignore[attr-defined]
        db.engine.dispose()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_programs_end_with_an_isolated_process(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def work() -> Outcome:
        program = subprocess.Popen(["sleep", "300"])
        file.write_text(str(program.pid))
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    outcome = run_isolated(work, claim(), lambda: 1.0, app)
    assert outcome.ending is Ending.CRASHED
    pid = int(file.read_text())
    wait_until(lambda: not is_running(pid), 5, "the program has ended")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_app_without_sqlalchemy_is_fine(app: Flask) -> None:
    child = os.fork()
    if child == 0:
        prepare_process(app)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
