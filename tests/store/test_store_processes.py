"""Several processes on one database, and processes that fork while they use it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_offload.engines.sqlite import fork_safety as forks
from flask_offload.engines.worker_locks import Registration, run_folder
from flask_offload.jobs.job import JobStatus
from store_support import Store
from support import APP_PATH, APPS

# Python 3.12 and later warn of what is tested here.
pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

SCRIPT = APPS / "store_processes.py"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path, busy_timeout=30.0)) as made:
        yield made


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process at the start line; killed at the end if it still runs."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *command],
        stdin=pipe,
        stdout=pipe,
        text=True,
        env={**os.environ, "PYTHONPATH": APP_PATH},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "it ended before the start"
            yield process
        finally:
            process.kill()


def race(*commands: list[str]) -> list[Any]:
    """Let these run at once; what each of them has printed."""
    with ExitStack() as stack:
        processes = [stack.enter_context(started(*command)) for command in commands]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
        return answers


# --- races ---------------------------------------------------------------------------------------


def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "jobs.sqlite3"
    ids = race(*[["first_use", str(path)]] * 6)
    assert len(set(ids)) == 6
    with closing(Store(path.parent)) as store:
        assert store.engine.count()[JobStatus.READY] == 6
        assert store.query("PRAGMA journal_mode") == [("wal",)]
        assert store.query("PRAGMA auto_vacuum") == [(2,)]


def test_a_unique_job_is_one_for_all_processes(store: Store) -> None:
    store.engine.count()
    answers = race(*[["unique", str(store.path), "100"]] * 3)
    for tries in zip(*answers, strict=True):
        assert len({job_id for job_id, _ in tries}) == 1
        assert sorted(is_duplicate for _, is_duplicate in tries) == [False, True, True]
    assert store.engine.count()[JobStatus.READY] == 100


def test_each_tick_is_enqueued_once_by_one_of_the_workers(store: Store) -> None:
    store.engine.count()
    mine = race(*[["ticks", str(store.path), "200"]] * 2)
    assert sum(mine) == 200
    assert store.engine.count()[JobStatus.READY] == 200


def test_every_job_is_run_by_one_worker(store: Store) -> None:
    records = store.engine.enqueue([store.new() for _ in range(300)])
    first, second = race(*[["drain", str(store.path), name] for name in ("w1", "w2")])
    assert sorted(first + second) == [record.id for record in records]
    assert first
    assert second
    assert store.engine.count()[JobStatus.SUCCESSFUL] == 300


def test_a_limited_key_is_never_left_waiting(store: Store) -> None:
    """However two workers interleave, the one that frees capacity lets the next one in."""
    limited = {"concurrency_key": "k", "concurrency": 2}
    records = store.engine.enqueue([store.new(**limited) for _ in range(100)])
    first, second = race(*[["drain", str(store.path), name] for name in ("w1", "w2")])
    assert sorted(first + second) == [record.id for record in records]


def test_no_writer_starves(store: Store) -> None:
    """With SQLite's own busy timeout, the slowest of these gets next to nothing."""
    store.engine.count()
    shares = race(*[["write", str(store.path), "2"]] * 6)
    assert min(shares) >= 0.3 * sum(shares) / len(shares), shares


# --- file modes ----------------------------------------------------------------------------------


def test_no_other_user_may_read_the_files(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with closing(Store(tmp_path / "own" / "folder")) as store:
            store.enqueue()
            registration = Registration(run_folder(store.path), 1)
            modes = {
                path.relative_to(tmp_path / "own").as_posix().split(registration.id)[-1]: (
                    stat.S_IMODE(path.stat().st_mode)
                )
                for path in (tmp_path / "own").rglob("*")
            }
            registration.close()
    finally:
        os.umask(mask)
    assert modes == {
        "folder": 0o700,
        "folder/jobs.sqlite3": 0o600,
        "folder/jobs.sqlite3-wal": 0o600,
        "folder/jobs.sqlite3-shm": 0o600,
        "folder/jobs.sqlite3-run": 0o700,
        ".lock": 0o600,
        ".slots": 0o600,
    }


# --- forks ---------------------------------------------------------------------------------------


def in_child(work: Callable[[], object], *, leave: Callable[[int], object] = os._exit) -> int:
    """Fork, do it in the child; the child's exit code (0 unless it raised)."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            leave(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_files(store: Store) -> list[str]:
    """What of the database this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        target = os.path.realpath(f"/proc/self/fd/{name}")
        if target.startswith(str(store.path)):
            found.append(Path(target).name)
    return sorted(found)


def test_a_child_inherits_no_connection(store: Store) -> None:
    store.enqueue()
    store.engine.count()
    names = {store.path.name + suffix for suffix in ("", "-wal", "-shm")}
    assert set(open_files(store)) == names

    def work() -> None:
        assert open_files(store) == []
        assert store.engine.count()[JobStatus.READY] == 1
        store.enqueue()

    assert in_child(work) == 0
    store.enqueue()
    assert store.engine.count()[JobStatus.READY] == 3
    assert store.query("PRAGMA integrity_check") == [("ok",)]


def test_parent_and_child_write_in_turn(store: Store) -> None:
    """Each has locks of its own: neither writes while the other does."""
    store.enqueue()

    def work() -> None:
        for _ in range(100):
            store.enqueue(queue_name="child")

    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    for _ in range(100):
        store.enqueue(queue_name="parent")
    assert os.waitpid(pid, 0)[1] == 0
    counts = store.query("SELECT queue_name, count(*) FROM jobs GROUP BY 1 ORDER BY 1")
    assert counts == [("child", 100), ("default", 1), ("parent", 100)]


def test_a_fork_in_the_middle_of_a_transaction_waits_for_its_end(store: Store) -> None:
    """Else the child would be locked out for ever, by a lock that it believes to hold itself."""
    store.enqueue()
    inside, go_on = threading.Event(), threading.Event()

    def slowly(connection: Any) -> None:
        connection.execute("UPDATE queues SET name = 'changed'").fetchall()
        inside.set()
        assert go_on.wait(10)

    writer = threading.Thread(target=lambda: store.engine.database.write(slowly))
    writer.start()
    assert inside.wait(10)
    threading.Timer(0.2, go_on.set).start()

    def work() -> None:
        assert [info.name for info in store.engine.queues()] == ["changed"]
        store.enqueue()

    assert in_child(work) == 0
    writer.join()
    assert store.engine.count()[JobStatus.READY] == 2


def test_children_of_children_and_several_databases(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with closing(Store(tmp_path / "a")) as one, closing(Store(tmp_path / "b")) as two:

        def work() -> None:
            one.enqueue()
            assert in_child(lambda: (one.enqueue(), two.enqueue())) == 0
            two.enqueue()

        one.enqueue()
        assert in_child(work) == 0
        assert one.engine.count()[JobStatus.READY] == 3
        assert two.engine.count()[JobStatus.READY] == 2


def test_threads_that_fork_at_once(store: Store) -> None:
    store.enqueue()
    codes: list[int] = []

    def fork_often() -> None:
        for _ in range(5):
            codes.append(in_child(store.enqueue))
            store.enqueue()

    threads = [threading.Thread(target=fork_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 15
    assert store.engine.count()[JobStatus.READY] == 31


def test_a_fork_without_hooks(store: Store) -> None:
    """As a C program may that embeds Python: the child still uses connections of its own."""
    store.enqueue()

    def work() -> None:
        forks._after_in_child()
        store.enqueue()

    assert in_child(work) == 0
    assert store.engine.count()[JobStatus.READY] == 2


def test_a_stopped_or_killed_child_holds_nothing(store: Store) -> None:
    store.enqueue()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGSTOP)
    for _ in range(10):
        store.enqueue()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert store.engine.count()[JobStatus.READY] == 11
