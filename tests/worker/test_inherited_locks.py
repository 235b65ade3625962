"""What a dead or stopped process has left to others keeps no queue unserved."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_keeper import GLOBAL, GUNICORN, Served, serve, write

from flask_offload import JobStatus
from flask_offload.engines.lock import Lock
from flask_offload.engines.processes import has_ended, identity, is_stopped
from flask_offload.engines.worker_locks import dead_workers, is_alive
from proc import descendants, parent
from support import http_get, http_post, kill9, running, wait_until

pytestmark = pytest.mark.processes

OWNER = """
import ctypes, multiprocessing, os, subprocess, sys, time
from pathlib import Path
from flask_offload.engines.lock import Lock

lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
{heir}
print("held", flush=True)
time.sleep(600)
"""

HEIRS = {
    "a fork in C": "if ctypes.PyDLL(None).fork() == 0: ctypes.PyDLL(None).sleep(600)",
    "a program": (
        "os.set_inheritable(lock._descriptor, True);"
        "subprocess.Popen(['sleep', '600'], close_fds=False)"
    ),
    "os.fork": "if os.fork() == 0: time.sleep(600)",
    "multiprocessing": (
        "multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,)).start()"
    ),
}


@pytest.mark.parametrize("heir", HEIRS)
def test_a_dead_owner_has_no_lock_whatever_has_inherited_it(tmp_path: Path, heir: str) -> None:
    path = tmp_path / "w1.lock"
    code = OWNER.replace("{heir}", HEIRS[heir])
    with running([sys.executable, "-c", code, path], ready="held") as process:
        heirs = descendants(process.pid)
        assert heirs
        assert is_alive(tmp_path, "w1")
        with dead_workers(tmp_path, "w2") as dead:
            assert dead == []
        kill9(process.pid)
        assert all(os.path.exists(f"/proc/{pid}") for pid in heirs)
        assert not is_alive(tmp_path, "w1")
        with dead_workers(tmp_path, "w2") as dead:
            assert dead == ["w1"]
        assert not path.exists()


def test_a_released_lock_is_free_though_a_child_has_its_descriptor(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "a.lock")
    assert lock.acquire()
    libc = ctypes.PyDLL(None)
    pid = libc.fork()
    if pid == 0:
        libc.sleep(60)
        os._exit(0)
    lock.release()
    other = Lock(tmp_path / "a.lock")
    assert other.acquire()
    other.release()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_who_a_process_is() -> None:
    own = identity()
    assert not has_ended(own)
    with subprocess.Popen(["sleep", "60"]) as other:
        line = identity(other.pid)
        assert line != own
        assert not has_ended(line)
        os.kill(other.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(other.pid))
        assert not has_ended(line)
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(line)  # a zombie
    assert has_ended(line)
    pid, started, *place = own.split()
    assert has_ended(" ".join([pid, str(int(started) - 1), *place]))  # the id of another, by now
    for unknown in ("", "1", own + " more", f"{line.split()[0]} 1 boot pid:[7]"):
        assert not has_ended(unknown)


@pytest.mark.parametrize("may_take", [lambda owner: False, lambda owner: True])
def test_a_lock_is_taken_from_a_living_owner_only_if_so_asked(
    tmp_path: Path, may_take: Callable[[str], bool]
) -> None:
    first, second = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")
    assert first.acquire()
    taken = second.acquire(may_take)
    assert (first.is_current, second.is_current) == (not taken, taken)
    first.release(remove=True)  # removes no lock of another
    assert second.path.exists() is taken
    second.release()


FORKING = (
    GLOBAL
    + """
    @offload.task
    def forks():
        import ctypes
        libc = ctypes.PyDLL(None)
        if libc.fork() == 0:
            libc.sleep(600)
            os._exit(0)
        with open("forked", "a") as file:
            file.write("forked\\n")
        import time
        while len(open("forked").readlines()) < 2:
            time.sleep(0.05)

    @app.post("/forks")
    def post_forks():
        return forks.enqueue().id
"""
)


def test_a_fork_in_c_keeps_no_dead_thread_worker_alive(tmp_path: Path) -> None:
    write(tmp_path, FORKING)
    thread = {"FLASK_OFFLOAD_WORKER": "thread"}
    with serve(tmp_path, [*GUNICORN, "site_app:app"], **thread) as first:
        job = http_post(f"{first.url}/forks").text
        wait_until((tmp_path / "forked").exists, 20)
        everyone = descendants(first.process.pid)
        (server,) = [pid for pid in everyone if parent(pid) == first.process.pid]
        for pid in (first.process.pid, server):
            kill9(pid)
        with serve(tmp_path, [*GUNICORN, "site_app:app"], **thread) as second:
            http_get(second.url)
            wait_until(lambda: second.engine.get(job).status is JobStatus.SUCCESSFUL, 20)


def test_another_process_serves_the_queue_of_a_stopped_keeper(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    command = [*GUNICORN, "--workers", "2", "--timeout", "600", "site_app:app"]
    with serve(tmp_path, command) as served:
        served.run_a_job()
        (worker,) = served.workers()
        keeper = parent(worker.pid)
        assert keeper in descendants(served.process.pid)
        os.kill(keeper, signal.SIGSTOP)
        kill9(worker.pid)
        _enqueue(served, tmp_path)
        wait_until(lambda: not served.engine.count().get(JobStatus.READY), 30)
        assert is_stopped(keeper)
        (successor,) = served.workers()
        assert parent(successor.pid) not in {keeper, served.process.pid}
        os.kill(keeper, signal.SIGCONT)
        served.run_a_job()
        began = time.monotonic()  # the old keeper looks at the lock ten times a second
        wait_until(lambda: time.monotonic() > began + 1.0)
        assert [found.pid for found in served.workers()] == [successor.pid]


def _enqueue(served: Served, folder: Path) -> None:
    """Without the server, one of whose processes is stopped."""
    code = "from site_app import app, pid\nwith app.app_context(): pid.enqueue()"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=30)
