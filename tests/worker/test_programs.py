"""The programs that a job starts end with it, and orphans leave no zombies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_offload import JobStatus
from small_site import SmallSite
from support import wait_until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]

APP = """
import os, subprocess, sys, time
from flask import Flask
from flask_offload import Offload
app = Flask(__name__)
offload = Offload(app)
NUMBER = os.environ["NUMBER"]

def program(**options):
    return subprocess.Popen(["sleep", NUMBER], **options)

@offload.task(timeout=0.5)
def overdue() -> None:
    program().wait()

@offload.task(isolate=True, on_crash="fail")
def alone() -> None:
    program()
    os.kill(os.getpid(), 9)

@offload.task
def waits() -> None:
    subprocess.run(["sh", "-c", f"sleep {NUMBER} & wait"])

@offload.task
def daemon() -> None:
    program(start_new_session=True)
    os.kill(os.getpid(), 9)

@offload.task
def orphans(count: int) -> None:
    for _ in range(count):
        subprocess.run(["sh", "-c", "sleep 0.1 & exit"])
"""


class Site(SmallSite):
    """Its jobs start `sleep NUMBER`, a number of this test alone."""

    def __init__(self, folder: Path) -> None:
        self.number = f"{100_000 + os.getpid()}.{abs(hash(str(folder))) % 1_000_000:06}"
        super().__init__(folder, APP, NUMBER=self.number, FLASK_OFFLOAD_TIMEOUT_GRACE="0.1")

    def programs(self) -> list[int]:
        """The pids of the programs of this test that live."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
                state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if words[:2] == [b"sleep", self.number.encode()] and state != "Z":
                found.append(int(path.parent.name))
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()
    for pid in made.programs():
        os.kill(pid, signal.SIGKILL)


def test_a_forced_stop_ends_the_programs_of_the_job(site: Site) -> None:
    with site.worker():
        job = site.enqueue("overdue")
        wait_until(site.programs, 10, "the program runs")
        wait_until(lambda: site.status(job) is JobStatus.FAILED, 20, "the job is stopped")
        wait_until(lambda: not site.programs(), 5, "its program has ended")


def test_a_crash_ends_the_programs_of_the_job(site: Site) -> None:
    with site.worker():
        job = site.enqueue("alone", isolate=True, on_crash="fail")
        wait_until(lambda: site.status(job) is JobStatus.FAILED, 20, "the job has crashed")
        wait_until(lambda: not site.programs(), 5, "its program has ended")


def test_a_cancelled_job_takes_its_programs_along(site: Site) -> None:
    with site.worker():
        job = site.enqueue("waits")
        wait_until(site.programs, 10, "the program runs")
        with site.app.app_context():
            site.offload.get_job(job).cancel(force=True)
        wait_until(lambda: site.status(job) is JobStatus.CANCELLED, 20, "the job is stopped")
        wait_until(lambda: not site.programs(), 5, "its program has ended")


def test_a_drain_that_is_over_ends_the_programs(site: Site) -> None:
    with site.worker("--drain-timeout", "0.2") as worker:
        job = site.enqueue("waits")
        wait_until(site.programs, 10, "the program runs")
        worker.popen.terminate()
        assert worker.wait(20) == 0
        assert site.status(job) is JobStatus.READY
        assert site.programs() == []


def test_the_next_worker_ends_the_programs_of_one_that_was_killed(site: Site) -> None:
    with site.worker() as worker:
        job = site.enqueue("waits")
        (old,) = wait_until(site.programs, 10, "the program runs")
        os.kill(worker.popen.pid, signal.SIGKILL)
        with site.worker():
            wait_until(
                lambda: site.programs() not in ([], [old]), 20, "the job runs again, after its end"
            )
            assert old not in site.programs()
            assert site.status(job) is JobStatus.RUNNING


def test_a_program_with_a_session_of_its_own_goes_on(site: Site) -> None:
    with site.worker() as worker:
        job = site.enqueue("daemon", on_crash="fail")
        wait_until(lambda: site.status(job) is JobStatus.FAILED, 20, "the job has crashed")
        assert len(site.programs()) == 1
        worker.popen.terminate()
        assert worker.wait(20) == 0
        assert len(site.programs()) == 1


def test_orphans_of_jobs_are_reaped(site: Site) -> None:
    with site.worker() as worker:
        job = site.enqueue("orphans", 10)
        wait_until(lambda: site.status(job) is JobStatus.SUCCESSFUL, 20, "the job has run")
        wait_until(lambda: zombies_of(worker.popen.pid) == 0, 10, "no zombie is left")


def zombies_of(parent: int) -> int:
    number = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        number += state == "Z" and int(ppid) == parent
    return number
