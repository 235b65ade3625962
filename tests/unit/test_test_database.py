"""Tests never touch the jobs of development or production, nor the other way round."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from flask_offload import Offload
from flask_offload.testing import assert_enqueued, assert_not_enqueued, drain, enqueued

SCRIPT = """
import sys
from flask import Flask
from flask_offload import Offload
from flask_offload.testing import drain, enqueued
app = Flask(__name__, instance_path=sys.argv[1])
app.config["TESTING"] = sys.argv[2] == "before"
offload = Offload(app)
sent = []

@offload.task
def mail(to: str) -> None:
    sent.append(to)

app.testing = sys.argv[2] != "never"
with app.app_context():
    for step in sys.argv[3:]:
        try:
            if step == "drain":
                drain(app)
            elif step == "list":
                print([job.task for job in enqueued(mail)])
            else:
                mail.enqueue(step)
        except RuntimeError as error:
            print("refused:", error)
    print(sent, offload.engine.count()["READY"])
"""


def run(folder: Path, testing: str, *steps: str) -> str:
    """What a process prints that is no pytest; testing: when app.testing is set."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "instance"), testing, *steps],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return done.stdout


@pytest.mark.processes
def test_a_test_neither_runs_nor_sees_the_jobs_of_development(tmp_path: Path) -> None:
    assert run(tmp_path, "never", "real-customer") == "[] 1\n"
    assert run(tmp_path, "before", "tester", "list", "drain").splitlines() == [
        "['__main__.mail']",
        "['tester'] 0",
    ]
    assert run(tmp_path, "never") == "[] 1\n", "the developer's job still waits, the test's is gone"


@pytest.mark.processes
def test_testing_that_is_set_too_late_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "never", "real-customer")
    printed = run(tmp_path, "after", "tester", "drain", "list")
    assert printed.count("refused: app.testing was set after init_app") == 3
    assert printed.endswith("[] 1\n")


def make_app(folder: Path, **config: object) -> tuple[Flask, Offload]:
    app = Flask("shop", instance_path=str(folder / "instance"))
    app.config.update(config)
    return app, Offload(app)


def test_under_pytest_each_app_has_its_own_jobs(tmp_path: Path) -> None:
    def note(text: str) -> None: ...

    (one, first), (other, second) = make_app(tmp_path), make_app(tmp_path)
    task, same = first.task(name="note")(note), second.task(name="note")(note)
    with one.app_context():
        task.enqueue("a")
        assert_enqueued(task, "a")
    with other.app_context():
        assert_not_enqueued(same)
        assert drain(other) == []
    with one.app_context():
        assert [job.status for job in drain(one)] == ["SUCCESSFUL"]
        assert len(enqueued(task)) == 1
    folders = [state.database.parent for state in (*first.states.values(), *second.states.values())]
    assert not (tmp_path / "instance").exists()
    for app, offload in ((one, first), (other, second)):
        with app.app_context():
            offload.engine.close()
    del one, other, app, first, second, offload, task, same
    import gc

    gc.collect()
    assert [folder for folder in folders if folder.exists()] == []


def test_a_path_that_is_set_is_used(tmp_path: Path) -> None:
    app, offload = make_app(tmp_path, OFFLOAD_SQLITE_PATH=str(tmp_path / "own.sqlite3"))
    assert offload.state_of(app).database == tmp_path / "own.sqlite3"
