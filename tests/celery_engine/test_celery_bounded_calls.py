"""Calls whose callers wait no longer than promised, and the outbox's file. No server is used."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_app import add, create_app, offload
from flask_offload.errors import EngineUnavailable
from flask_offload_celery.deadline import THREADS, Deadline
from flask_offload_celery.engine import CeleryEngine
from flask_offload_celery.outbox import Outbox
from support import wait_until


@pytest.fixture
def deadline() -> Iterator[Deadline]:
    made = Deadline(0.1, "the server")
    yield made
    made.close()


def test_a_late_call_is_refused_undone_and_others_are_not_sent_after_it(deadline: Deadline) -> None:
    answers, undone = threading.Event(), threading.Event()
    with pytest.raises(EngineUnavailable, match=r"has not answered within 0\.1 s"):
        deadline.run(lambda: answers.wait(30), undo=lambda _: undone.set())
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match="has not answered an earlier call yet"):
        deadline.run(lambda: pytest.fail("it was called"))
    assert time.monotonic() - began < 0.1
    answers.set()
    assert undone.wait(10)
    wait_until(lambda: _works(deadline))


def _works(deadline: Deadline) -> bool:
    try:
        return deadline.run(lambda: True)
    except EngineUnavailable:
        return False


def test_what_a_call_returns_or_raises_reaches_its_caller(deadline: Deadline) -> None:
    assert deadline.run(lambda: 3, undo=lambda _: pytest.fail("it was in time")) == 3
    with pytest.raises(ZeroDivisionError):
        deadline.run(lambda: 1 // 0)


def test_a_late_call_that_fails_is_not_undone(deadline: Deadline) -> None:
    answers = threading.Event()

    def work() -> None:
        answers.wait(30)
        raise EngineUnavailable("no")

    with pytest.raises(EngineUnavailable):
        deadline.run(work, undo=lambda _: pytest.fail("there is nothing to undo"))
    answers.set()
    wait_until(lambda: _works(deadline))


def test_what_can_not_be_undone_is_logged_and_the_thread_goes_on(
    deadline: Deadline, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(THREADS + 1):
        answers = threading.Event()
        with pytest.raises(EngineUnavailable):
            deadline.run(lambda answers=answers: answers.wait(30), undo=lambda _: 1 // 0)  # type: ignore[misc]
        answers.set()
        wait_until(lambda: _works(deadline))
        assert len(caplog.records) == number + 1
    assert "can't be undone: ZeroDivisionError" in caplog.text


def test_close_waits_for_late_calls() -> None:
    """Their connections are closed next."""
    deadline, answers, undone = Deadline(0.1, "the server"), threading.Event(), threading.Event()
    with pytest.raises(EngineUnavailable):
        deadline.run(lambda: answers.wait(30), undo=lambda _: undone.set())
    deadline._seconds = 30.0
    threading.Timer(0.2, answers.set).start()
    deadline.close()
    assert undone.is_set()


def test_many_callers_share_a_few_threads() -> None:
    deadline, names = Deadline(30, "the server"), set()

    def call() -> None:
        names.add(deadline.run(lambda: threading.current_thread().name))

    callers = [threading.Thread(target=call) for _ in range(4 * THREADS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    deadline.close()
    assert 1 <= len(names) <= THREADS
    assert deadline.run(lambda: True)  # after close() the next call starts new threads
    deadline.close()


# --- the outbox -----------------------------------------------------------------------------------


def test_jobs_in_the_outbox_belong_to_every_process_that_opens_its_file(tmp_path: Path) -> None:
    path, delivered = tmp_path / "new" / "outbox", list[int]()
    app = create_app(OFFLOAD_ENGINE="inline")
    one, two = (
        Outbox(path, durable=True, deliver=lambda _, rows: delivered.extend(seq for seq, _ in rows))
        for _ in range(2)
    )
    assert (one.has_jobs(), one.count(), one.get("unknown"), path.exists()) == (
        False,
        0,
        None,
        False,
    )
    with app.app_context():
        jobs = [add.call(number, 0).new_job for number in range(3)]
    one.put(jobs)
    two.put(jobs[:1])  # a job that is there already is not added
    assert (two.has_jobs(), two.count(), two.get(jobs[1].id)) == (True, 3, jobs[1])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    two.relay()
    wait_until(lambda: not one.has_jobs())
    two.close()
    one.put(jobs)  # numbers are never used twice
    one.relay()
    wait_until(lambda: not one.has_jobs())
    one.close()
    assert delivered == sorted(set(delivered))
    assert len(delivered) == 6


@pytest.mark.processes
def test_an_outbox_is_not_open_while_the_process_forks(tmp_path: Path) -> None:
    app = create_app(
        OFFLOAD_ENGINE="celery",
        OFFLOAD_OUTBOX=True,
        OFFLOAD_SQLITE_PATH=str(tmp_path / "jobs"),
        CELERY={"broker_url": "redis://localhost:1/0"},
    )
    engine = offload.state_of(app).engine
    assert isinstance(engine, CeleryEngine)
    with app.app_context():
        first, second, third = (add.call(number, 0).new_job for number in range(3))
    outbox = engine.connections.outbox
    assert outbox is not None
    outbox.put([first])
    pid = os.fork()
    if pid == 0:
        names = {Path(os.readlink(link)).name for link in _descriptors()}
        outbox.put([second])
        os._exit(any(name.startswith("jobs-outbox") for name in names))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    outbox.put([third])
    assert [outbox.get(job.id) for job in (first, second, third)] == [first, second, third]
    engine.close()


def _descriptors() -> list[Path]:
    return [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


def test_jobs_go_into_no_file_that_was_deleted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", durable=True, deliver=lambda *_: None)
    with create_app(OFFLOAD_ENGINE="inline").app_context():
        first, second = (add.call(number, 0).new_job for number in range(2))
    outbox.put([first])
    for path in tmp_path.iterdir():
        path.unlink()
    assert not outbox.has_jobs()
    outbox.put([second])
    other = Outbox(tmp_path / "outbox", durable=True, deliver=lambda *_: None)
    assert (other.count(), other.get(second.id)) == (1, second)
    outbox.close()
    other.close()


def test_an_outbox_that_can_not_be_used_refuses_jobs(tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    outbox = Outbox(tmp_path / "outbox", durable=False, deliver=lambda *_: None)
    with pytest.raises(EngineUnavailable, match=r"the outbox .* can't be used"):
        outbox.put([])
