"""What torture has found, each in its smallest form."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from flask_offload import JobStatus
from flask_offload.engines.base import THREADS, NewJob
from flask_offload.engines.sqlite import SqliteEngine
from flask_offload.engines.sqlite.ledger import Ledger, Retention
from flask_offload.job import new_id
from jobs_app import add, die
from jobsite import Site, make_site
from support import kill9, running, wait_until

KEEP = Retention(3600.0, 3600.0, 1000)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(tmp_path / "jobs.sqlite3")
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with make_site(tmp_path, monkeypatch) as made:
        yield made


def job(queue_name: str = "default") -> NewJob:
    return NewJob(
        id=new_id(), task="t", queue_name=queue_name, priority=0, enqueued_at=1.0, args="[]"
    )


def test_a_queue_whose_first_job_could_not_be_enqueued_is_served(engine: SqliteEngine) -> None:
    engine.enqueue([job("other")])
    twice = job("mail")
    with pytest.raises(apsw.ConstraintError):  # as a full disk, it takes the transaction back
        engine.enqueue([twice, twice])
    engine.enqueue([twice])
    visit = Ledger(engine, "w1", KEEP, ["mail"]).exchange([], {THREADS: 10})
    assert [claim.id for claim in visit.claims] == [twice.id]


SLOW_TO_IMPORT = """
import os, time
from pathlib import Path
Path("importing").write_text(str(os.getpid()))
while not Path("go-on").exists():
    time.sleep(0.01)
if Path("deadly").exists():
    os.kill(os.getpid(), 9)
from jobs_app import *
"""


def test_a_worker_whose_first_child_is_killed_while_it_imports_the_app(site: Site) -> None:
    """It used to wait for the dead child's greeting for ever, alive and useless."""
    (site.folder / "slow_app.py").write_text(SLOW_TO_IMPORT)
    job = add.enqueue(1, 2)
    command = [sys.executable, "-m", "flask", "--app", "slow_app", "offload", "worker"]
    with running(command, env=site.env, cwd=site.folder) as worker:
        mark = site.folder / "importing"
        wait_until(lambda: mark.exists() and mark.read_text(), 20)
        kill9(int(mark.read_text()))
        (site.folder / "go-on").touch()
        assert job.wait(20).return_value == 3, str(worker)


def test_a_worker_whose_app_kills_every_process_that_imports_it_gives_up(site: Site) -> None:
    (site.folder / "slow_app.py").write_text(SLOW_TO_IMPORT)
    for name in ("go-on", "deadly"):
        (site.folder / name).touch()
    command = [sys.executable, "-m", "flask", "--app", "slow_app", "offload", "worker"]
    with running(command, env=site.env, cwd=site.folder) as worker:
        assert worker.wait(30) == 78
    assert "can't import the app: the process that did so died (killed by SIGKILL)" in str(worker)


def test_a_job_that_closes_all_descriptors_is_given_up_and_the_queue_goes_on(site: Site) -> None:
    """Its process lives on, deaf and mute; its jobs were RUNNING for ever."""
    poison = die.enqueue("close-fds")
    good = [add.enqueue(number, 0) for number in range(20)]
    site.burst()
    assert [job.refresh().return_value for job in good] == list(range(20))
    assert poison.refresh().status is JobStatus.FAILED
    assert [attempt.outcome for attempt in poison.attempts] == ["CRASHED"] * 3
