"""The log of a job in real worker processes: while it runs, and after its process was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_offload import JobStatus
from small_site import SmallSite, small_site
from support import wait_until

pytestmark = pytest.mark.processes

SOURCE = """
import asyncio, logging, os, signal, threading, time
from pathlib import Path
from flask import Flask
from flask_offload import Offload, current_job

app = Flask(__name__)
offload = Offload(app)
app.logger.setLevel("INFO")

def wait_for(name):
    deadline = time.monotonic() + 20
    while not Path(name).exists() and time.monotonic() < deadline:
        time.sleep(0.01)

@offload.task
def two_halves(name):
    app.logger.info("first half of %s", name)
    wait_for(name)
    logging.getLogger("lib").warning("second half of %s", name)

@offload.task
async def async_halves(name):
    app.logger.info("first half of %s", name)
    await asyncio.to_thread(wait_for, name)
    app.logger.info("second half of %s", name)

@offload.task(on_crash="fail")
def killed(name):
    app.logger.info("before")
    wait_for(name)
    app.logger.info("never reported")
    os.kill(os.getpid(), signal.SIGKILL)

@offload.task(isolate=True)
def alone():
    thread = threading.Thread(target=app.logger.info, args=("in a thread",))
    thread.start()
    thread.join()
    app.logger.info("in the job")
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmallSite]:
    with small_site(tmp_path, SOURCE) as made:
        yield made


def messages(site: SmallSite, job_id: str) -> list[str]:
    with site.app.app_context():
        return [line.message for line in site.job(job_id).log]


def test_jobs_at_once_keep_their_own_lines_while_they_run(site: SmallSite) -> None:
    names = [str(site.folder / name) for name in ("one", "two", "three", "four")]
    with site.worker():
        ids = [
            site.enqueue("async_halves" if number > 2 else "two_halves", name)
            for number, name in enumerate(names, start=1)
        ]
        for job_id, name in zip(ids, names, strict=True):
            first = [f"first half of {name}"]
            wait_until(lambda job_id=job_id, first=first: messages(site, job_id) == first)  # type: ignore[misc]
        command = [sys.executable, "-m", "flask", "--app", "shop", "offload", "job", ids[0]]
        following = subprocess.Popen(
            [*command, "--log", "--follow"],
            cwd=site.folder,
            env=site.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert following.stdout is not None
        assert "INFO    shop: first half" in following.stdout.readline()
        for name in names:
            Path(name).touch()
        output, _ = following.communicate(timeout=30)
        assert "WARNING lib: second half" in output
        for job_id, name in zip(ids, names, strict=True):
            site.wait_for(job_id, JobStatus.SUCCESSFUL)
            assert messages(site, job_id) == [f"first half of {name}", f"second half of {name}"]


def test_lines_that_were_reported_outlive_the_process(site: SmallSite) -> None:
    name = site.folder / "go"
    with site.worker():
        job_id = site.enqueue("killed", str(name), on_crash="fail")
        wait_until(lambda: messages(site, job_id) == ["before"])
        name.touch()
        site.wait_for(job_id, JobStatus.FAILED)
    assert messages(site, job_id)[:1] == ["before"]


def test_a_process_of_one_job_has_lines_of_threads_too(site: SmallSite) -> None:
    with site.worker():
        job_id = site.enqueue("alone", isolate=True)
        site.wait_for(job_id, JobStatus.SUCCESSFUL)
    assert messages(site, job_id) == ["in a thread", "in the job"]
