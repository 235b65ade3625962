"""Whatever a task says or does, its worker goes on, and so do the other jobs."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from flask_offload import JobStatus
from flask_offload.worker.messages import MAX_LENGTH, Channel, FromChild
from small_site import SmallSite, small_site
from support import Running, running, wait_until

APP = r"""
import asyncio, atexit, os, signal, threading, time
from decimal import Decimal
from flask import Flask
from flask_offload import Offload, Retry, current_job, signals
app = Flask(__name__)
offload = Offload(app)

class Quit(Exception):
    def __str__(self):
        raise SystemExit(3)

ODD = [
    lambda: current_job.progress("5"), lambda: current_job.progress([1]),
    lambda: current_job.progress(10**400, 2), lambda: current_job.progress(1, 2, ["x"]),
    lambda: current_job.progress(Decimal("1"), message=b"x"),
    lambda: current_job.progress(1, message="\ud800"), lambda: current_job.progress(1, 2**64),
]

def raises(error):
    raise error

ODD += [
    lambda: raises(Retry(after=10**400)), lambda: raises(Retry(after=float("nan"))),
    lambda: raises(Quit()), lambda: raises(SystemExit(4)), lambda: raises(KeyboardInterrupt()),
    lambda: object(), lambda: "\ud800", lambda: 10**400,
]

@offload.task(on_crash="fail")
def odd(number: int):
    return ODD[number]()

@offload.task(on_crash="fail")
def plain() -> int:
    return os.getpid()

@offload.task(isolate=True)
def alone() -> bool:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    asyncio.new_event_loop().close()
    return threading.current_thread() is threading.main_thread()

@offload.task(isolate=True, on_crash="fail", timeout=30)
def dies() -> None:
    os.kill(os.getpid(), 9)

@signals.failed.connect
def slow(sender, claim, **_):
    if claim.task.endswith("dies"):
        time.sleep(float(os.environ.get("SLOW", "0")))

notes = open(os.environ["NOTES"], "a")

@offload.task
def note(text: str) -> None:
    notes.write(text + "\n")

@atexit.register
def bye():
    notes.write("atexit\n")
"""

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmallSite]:
    with small_site(tmp_path, APP, NOTES=str(tmp_path / "notes"), SLOW="8") as made:
        yield made


ODD = 15


def test_odd_values_harm_no_process(site: SmallSite) -> None:
    with site.worker("--threads", "2"):
        first = site.wait_for(site.enqueue("plain", on_crash="fail"), JobStatus.SUCCESSFUL)
        jobs = [site.enqueue("odd", number, on_crash="fail") for number in range(ODD)]
        for job_id in jobs:
            wait_until(partial(has_run, site, job_id), 20, "the job has run")
            found = site.job(job_id)
            assert found.error is None or found.error.type != "WorkerDied", found.error
        last = site.wait_for(site.enqueue("plain", on_crash="fail"), JobStatus.SUCCESSFUL)
        assert last.return_value == first.return_value, "it is still the same process"


def test_an_isolated_job_has_the_main_thread(site: SmallSite) -> None:
    with site.worker():
        job = site.wait_for(site.enqueue("alone", isolate=True), JobStatus.SUCCESSFUL)
        assert job.return_value is True


def test_a_slow_receiver_holds_up_no_other_job(site: SmallSite) -> None:
    with site.worker("--threads", "1") as worker:
        died = site.enqueue("dies", isolate=True, on_crash="fail", timeout=30)
        site.wait_for(died, JobStatus.FAILED)
        for _ in range(3):  # while the receiver sleeps
            site.wait_for(site.enqueue("plain", on_crash="fail"), JobStatus.SUCCESSFUL, 6)
        worker.popen.kill()


def test_an_orderly_stop_runs_exit_handlers_and_flushes_files(
    site: SmallSite, tmp_path: Path
) -> None:
    with site.worker() as worker:
        site.wait_for(site.enqueue("note", "written"), JobStatus.SUCCESSFUL)
        worker.popen.terminate()
        assert worker.wait(20) == 0
    # the process that runs common jobs, and the one that was ready for an isolated job
    lines = sorted((tmp_path / "notes").read_text().splitlines())
    assert lines == ["atexit", "atexit", "written"]


def test_a_burst_ends_when_nothing_but_unknown_tasks_waits(site: SmallSite) -> None:
    unknown = site.enqueue("no_such_task")
    with site.worker("--burst") as worker:
        assert worker.wait(20) == 0
    assert site.status(unknown) is JobStatus.READY


CRASHES = r"""
import os
from flask import Flask
from flask_offload import Offload
from flask_offload.worker import child
app = Flask(__name__)
Offload(app)

class Broken:
    def __init__(self, *_, **__):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write("started\n")
        raise RuntimeError("can't start new thread")

child.Child = Broken
"""


def test_a_child_that_dies_just_after_it_was_ready_is_replaced_with_pauses(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with small_site(tmp_path, CRASHES, NOTES=str(notes)) as site, running_worker(site):
        wait_until(lambda: notes.exists() and len(notes.read_text().split()) >= 4, 30, "it tries")
        # the pauses after the second failure are 0.5, 1, 2 … seconds: a loop would make hundreds
        assert len(notes.read_text().split()) <= 5


def has_run(site: SmallSite, job_id: str) -> bool:
    job = site.job(job_id)
    return bool(job.attempts) or job.is_finished


def running_worker(site: SmallSite) -> AbstractContextManager[Running]:
    command = [sys.executable, "-m", "flask", "--app", "shop", "offload", "worker"]
    return running(command, env=site.environ, cwd=site.folder)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!I", 3) + b"\xc1\xc1\xc1",
        struct.pack("!I", MAX_LENGTH + 1),
        struct.pack("!I", 2) + b"\x91\xa0",
        struct.pack("!I", 0),
    ],
)
def test_a_message_that_can_not_be_read_closes_its_channel_alone(data: bytes) -> None:
    first, second = socket.socketpair()
    channel = Channel(first, FromChild)
    second.sendall(data)
    assert channel.receive() == []
    assert channel.is_closed
    channel.close()
    second.close()
