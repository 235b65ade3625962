"""A web server as the first process (PID 1) of a container, stopped as `docker stop` does it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_offload import JobStatus
from small_site import SmallSite, small_site
from support import Running, answers, free_port, http_get, running, wait_until

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not _can_unshare(), reason="it needs a PID namespace of its own"),
]

SHOP = """
import subprocess, time
from pathlib import Path
from flask import Flask
from flask_offload import Offload

app = Flask(__name__)
offload = Offload(app)

@offload.task
def short() -> None:
    Path("short").touch()
    time.sleep(1.5)

@offload.task
def long() -> None:
    first = not Path("long").exists()
    Path("long").touch()
    time.sleep(60 if first else 0)

@offload.task
def orphans() -> None:
    for _ in range(5):
        subprocess.run(["sh", "-c", "sleep 0.1 & exit"])

@app.get("/")
def home():
    return "up"

@app.get("/<name>")
def go(name):
    return offload.tasks[f"shop.{name}"].enqueue().id
"""

SERVERS = {
    "gunicorn": ["gunicorn", "-b", "127.0.0.1:PORT", "shop:app"],
    "flask run": ["flask", "--app", "shop", "run", "--port", "PORT"],
    "waitress": ["waitress", "--listen=127.0.0.1:PORT", "shop:app"],
}


class Container:
    """A server as the first process of its PID namespace."""

    def __init__(self, process: Running, url: str) -> None:
        self.process, self._url = process, url
        self.first = _children(process.pid)[0]

    def enqueue(self, name: str) -> str:
        return http_get(f"{self._url}/{name}").text

    def zombies(self) -> list[int]:
        """Children of the first process, or of its children, that have ended and remain."""
        found, parents = [], [self.first]
        while parents:
            for pid in _children(parents.pop()):
                parents.append(pid)
                if _state(pid) == "Z":
                    found.append(pid)
        return found

    def stop(self, seconds: float) -> bool:
        """SIGTERM to the first process, and SIGKILL if it still runs after so many seconds; whether
        it has ended before."""
        os.kill(self.first, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        try:
            self.process.wait(seconds)
            return True
        except (AssertionError, subprocess.TimeoutExpired):
            assert time.monotonic() >= deadline
            os.kill(self.first, signal.SIGKILL)
            self.process.wait(10)
            return False


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@contextmanager
def container(site: SmallSite, server: str) -> Iterator[Container]:
    port = free_port()
    words = [word.replace("PORT", str(port)) for word in SERVERS[server]]
    url = f"http://127.0.0.1:{port}"
    with running(
        [*NAMESPACE, sys.executable, "-m", *words],
        env={**site.environ, "FLASK_OFFLOAD_WORKER": "auto"},
        cwd=site.folder,
        ready=lambda _: answers(f"{url}/"),
    ) as process:
        yield Container(process, url)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SmallSite]:
    with small_site(tmp_path, SHOP) as made:
        yield made


@pytest.mark.parametrize("server", SERVERS)
def test_a_running_job_that_fits_is_drained(site: SmallSite, server: str) -> None:
    with container(site, server) as first:
        job = first.enqueue("short")
        wait_until((site.folder / "short").exists, 30, "the job runs")
        assert first.stop(30), "it has ended by itself"
        assert site.status(job) is JobStatus.SUCCESSFUL
        assert len(site.job(job).attempts) == 1


@pytest.mark.parametrize("server", ["gunicorn", "flask run"])
def test_a_job_that_is_cut_runs_again_after_the_next_start(site: SmallSite, server: str) -> None:
    with container(site, server) as first:
        job = first.enqueue("long")
        wait_until((site.folder / "long").exists, 30, "the job runs")
        waiting = [first.enqueue("short") for _ in range(2)]
        first.stop(2)
    with container(site, server):
        for job_id in (job, *waiting):
            site.wait_for(job_id, JobStatus.SUCCESSFUL, 40)


@pytest.mark.parametrize("server", ["gunicorn", "flask run"])
def test_orphans_of_jobs_leave_no_zombies(site: SmallSite, server: str) -> None:
    with container(site, server) as first:
        jobs = [first.enqueue("orphans") for _ in range(3)]
        for job_id in jobs:
            site.wait_for(job_id, JobStatus.SUCCESSFUL, 30)
        wait_until(lambda: not first.zombies(), 10, lambda: f"zombies: {first.zombies()}")
