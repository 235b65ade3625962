"""What torture has found, each in its smallest form."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import PIPE

import apsw
import pytest

from flask_offload import JobStatus
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.lock import Lock
from flask_offload.engines.processes import is_stopped
from flask_offload.engines.schedules import ScheduleSpec
from flask_offload.engines.slots import Slots
from flask_offload.engines.sqlite.claims import SqliteClaims
from flask_offload.engines.sqlite.lock_owner import described, write_lock_owner
from flask_offload.engines.sqlite.maintenance import is_intact
from flask_offload.engines.sqlite.recovery import register
from flask_offload.engines.store import Retention, StoreOptions
from flask_offload.engines.worker_locks import dead_workers, run_folder
from flask_offload.errors import DatabaseGone, DatabaseLocked
from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Error, new_id
from flask_offload.jobs.new_job import THREADS, NewJob
from flask_offload.worker.dispatcher import Dispatcher
from flask_offload.worker.pool import Events, Pool
from hard_conditions_app import break_the_log, fork_and_return, stop_the_loop
from jobs_app import add, die, fail, note, sleep_async
from jobs_server import Site, make_site
from proc import descendants
from support import kill9, running, wait_until

pytestmark = pytest.mark.processes

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


def adversity(*arguments: str) -> list[str]:
    """A worker of hard_conditions_app."""
    command = ["--app", "hard_conditions_app", "offload", "worker"]
    return [sys.executable, "-m", "flask", *command, *arguments]


def job(queue_name: str = "default") -> NewJob:
    return NewJob(
        id=new_id(), task="t", queue_name=queue_name, priority=0, enqueued_at=1.0, args="[]"
    )


def test_a_queue_whose_first_job_could_not_be_enqueued_is_served(engine: SqliteEngine) -> None:
    engine.enqueue([job("other")])
    broken = job("mail")
    broken.task = None  # type: ignore[assignment]
    with pytest.raises(apsw.ConstraintError):  # as a full disk, it takes the transaction back
        engine.enqueue([job("mail"), broken])
    [accepted] = engine.enqueue([job("mail")])
    exchanged = SqliteClaims(engine, "w1", KEEP, frozenset({"mail"})).exchange([], {THREADS: 10})
    assert [claim.id for claim in exchanged.claims] == [accepted.id]


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


def test_a_child_that_can_not_open_the_slots_reports_it_and_another_is_tried(site: Site) -> None:
    """As on a file system that has become read-only; it used to print a traceback each time."""
    with site.worker("--processes", "1") as worker:
        assert add.enqueue(1, 2).wait(20).return_value == 3
        [table] = run_folder(site.engine.database.path).glob("*.slots")
        table.rename(table.with_suffix(".away"))
        for child in descendants(worker.pid):
            kill9(child)
        worker.wait_for("a new process can't run jobs", 20)
        table.with_suffix(".away").rename(table)
        assert add.enqueue(2, 3).wait(20).return_value == 5
        assert "Traceback" not in worker.output()


def test_a_job_that_closes_all_descriptors_is_given_up_and_the_queue_goes_on(site: Site) -> None:
    """Its process lives on, unresponsive; its jobs were RUNNING for ever."""
    poison = die.enqueue("close-fds")
    good = [add.enqueue(number, 0) for number in range(20)]
    site.burst()
    assert [job.refresh().return_value for job in good] == list(range(20))
    assert poison.refresh().status is JobStatus.FAILED
    assert [attempt.outcome for attempt in poison.attempts] == ["CRASHED"] * 3


def test_a_copy_that_a_task_forks_runs_no_jobs(site: Site) -> None:
    """It used to go on with the jobs that its thread had been given ahead, beside the original."""
    before = [note.enqueue(f"before {number}") for number in range(200)]
    forking = fork_and_return.enqueue()
    after = [note.enqueue(f"after {number}") for number in range(200)]
    command = ["--app", "hard_conditions_app", "offload", "worker", "--burst", "--threads", "1"]
    with running(
        [sys.executable, "-m", "flask", *command], env=site.env, cwd=site.folder
    ) as worker:
        assert worker.wait(60) == 0, str(worker)
    assert forking.refresh().return_value == "parent"
    assert {job.refresh().status for job in (*before, *after)} == {JobStatus.SUCCESSFUL}
    assert len(site.witnessed()) == len(set(site.witnessed())) == 401


FORKING = """
import os, sys
from pathlib import Path
from flask_offload.engines.lock import Lock
lock = Lock(Path(sys.argv[1]))
assert lock.acquire()
if os.fork() == 0:
    os.read(0, 1)  # lives on until the test ends
    os._exit(0)
"""


def test_a_lock_ends_with_its_owner_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "w1.lock"
    argv = [sys.executable, "-c", FORKING, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT) is not None
        lock = Lock(path)
        assert lock.acquire()
        lock.release()


def test_a_lock_file_that_cannot_be_opened_is_no_dead_worker(tmp_path: Path) -> None:
    """As on a disk that has become read-only, where this ended the worker."""
    (tmp_path / "w1.lock").mkdir()
    with dead_workers(tmp_path, "w2") as dead:
        assert dead == []


def test_the_slots_have_their_place_on_the_disk_before_they_are_used(tmp_path: Path) -> None:
    """Else a full disk would kill a process that notes a job in them, by SIGBUS."""
    slots = Slots(tmp_path / "slots", 10_000)
    try:
        assert os.stat(slots.path).st_blocks * 512 >= 10_000 * 16
    finally:
        slots.close()


class IdlePool(Pool):
    """A pool that never runs a job."""

    holds = 0

    def capacity(self) -> dict[str, int]:
        return {}

    def submit(self, claims: Sequence[Claim]) -> None:
        assert not claims

    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        raise AssertionError("there is nothing to cancel")

    def fileno(self) -> int:
        raise AssertionError("it is not waited for")

    def poll(self) -> tuple[Events, float]:
        return Events(), 1.0

    def drain(self) -> None: ...

    def stop(self) -> None: ...


def test_a_schedule_goes_on_when_a_clock_that_was_wrong_is_set_right(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waited until the clock had caught up with the wrong time."""
    hour, now = 3600.0, [1_800_000_000.0]
    engine.clock = lambda: now[0]
    spec = ScheduleSpec("hourly", None, hour, None, 0.0, "one", job())
    store = engine.open_store(StoreOptions(kind="test", retention=KEEP, places=1, capacity=1))
    dispatcher = Dispatcher(store, IdlePool(), schedules=[spec])
    monkeypatch.setattr("flask_offload.worker.dispatcher.LOOK_AT_CLOCK", 0.0)
    for step in (0.0, hour, -48 * hour, 0.0, hour):
        now[0] += step
        dispatcher.turn()
    store.close()
    assert engine.count()[JobStatus.READY] == 2


STOPS = """
import os, signal, sys, time
import apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
connection.execute("COMMIT")
print("released", flush=True)
time.sleep(60)
"""


def test_a_stopped_owner_of_the_write_lock_is_named_and_stays_stopped(tmp_path: Path) -> None:
    """Its state is not changed; once it continues, writes succeed again."""
    engine = SqliteEngine(tmp_path / "jobs.sqlite3", busy_timeout=0.2)
    engine.enqueue([job()])
    path = engine.database.path
    assert write_lock_owner(path) is None
    with subprocess.Popen([sys.executable, "-c", STOPS, str(path)], stdout=PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"locked\n"
            wait_until(lambda: is_stopped(owner.pid))
            assert write_lock_owner(path) == owner.pid
            assert f"process {owner.pid}" in described(owner.pid)
            assert described(owner.pid).endswith("which is stopped)")
            with pytest.raises(DatabaseLocked, match=f"{owner.pid} .*, which is stopped.* -CONT"):
                engine.enqueue([job()])
            assert is_stopped(owner.pid)
            os.kill(owner.pid, signal.SIGCONT)
            assert owner.stdout.readline() == b"released\n"
            engine.enqueue([job()])
            assert engine.count()[JobStatus.READY] == 2
        finally:
            owner.kill()
            engine.close()


def test_a_running_owner_of_the_write_lock_is_named(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "jobs.sqlite3", busy_timeout=0.2)
    engine.enqueue([job()])
    argv = [sys.executable, "-c", STOPS.replace("SIGSTOP", "SIGCONT").replace("COMMIT", "SELECT 1")]
    with subprocess.Popen([*argv, str(engine.database.path)], stdout=PIPE) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"locked\n"
            with pytest.raises(DatabaseLocked, match=f"process {owner.pid} .*python"):
                engine.enqueue([job()])
        finally:
            owner.kill()
            engine.close()


def test_the_owner_is_found_among_the_locks(tmp_path: Path) -> None:
    shm = tmp_path / "jobs.sqlite3-shm"
    shm.touch()
    inode, locks = shm.stat().st_ino, tmp_path / "locks"

    def owner(*lines: str) -> int | None:
        text = "".join(f"{number}: {line}\n" for number, line in enumerate(lines))
        locks.write_text(text.replace("INODE", str(inode)))
        return write_lock_owner(tmp_path / "jobs.sqlite3", locks)

    assert owner() is None
    assert owner("POSIX  ADVISORY  WRITE 7 fe:00:INODE 120 120") == 7
    assert owner("POSIX  ADVISORY  WRITE 7 fe:00:INODE 120 121") == 7  # at a checkpoint
    for line in (
        "POSIX  ADVISORY  READ 7 fe:00:INODE 120 120",
        "POSIX  ADVISORY  WRITE 7 fe:00:INODE 123 123",
        "POSIX  ADVISORY  WRITE 7 fe:00:1INODE 120 120",
        "POSIX  ADVISORY  WRITE 0 fe:00:INODE 120 120",
        "FLOCK  ADVISORY  WRITE 7 fe:00:INODE 0 EOF",
        "POSIX  ADVISORY  WRITE 7 fe:00:INODE 0 EOF",
        "-> POSIX  ADVISORY  WRITE 7 fe:00:INODE 120 120",
    ):
        assert owner(line) is None, line


def test_jobs_end_though_the_log_is_broken(site: Site) -> None:
    """A thread of the worker died of each job that failed, and the job was RUNNING for ever."""
    broken = break_the_log.using(priority=1).enqueue()
    failing = [fail.enqueue(f"{number}") for number in range(6)]
    good = add.using(priority=-1).enqueue(1, 2)
    with running(adversity("--threads", "2"), env=site.env, cwd=site.folder) as worker:
        assert good.wait(30).return_value == 3, str(worker)
    assert broken.refresh().status is JobStatus.SUCCESSFUL
    assert {job.refresh().status for job in failing} == {JobStatus.FAILED}


def test_a_job_that_stops_the_event_loop_is_given_up(site: Site) -> None:
    """All async jobs of its process were RUNNING for ever, and so was it."""
    bad, good = stop_the_loop.enqueue(), sleep_async.enqueue(0.3)
    with running(adversity(), env=site.env, cwd=site.folder) as worker:
        assert good.wait(30).status is JobStatus.SUCCESSFUL, str(worker)
        bad.wait(30)
    assert bad.status is JobStatus.FAILED
    assert [attempt.outcome for attempt in bad.attempts][:2] == ["CRASHED", "CRASHED"]
    assert "a task has stopped the event loop" in str(worker)


def test_a_backup_put_back_under_running_processes_does_not_get_the_old_log(
    engine: SqliteEngine, tmp_path: Path
) -> None:
    """SQLite would apply the old file's write-ahead log to it, and so destroy it."""
    other = SqliteEngine(engine.database.path)
    kept = [job() for _ in range(10)]
    engine.enqueue(kept)
    backup = apsw.Connection(str(tmp_path / "backup"))
    source = apsw.Connection(str(engine.database.path))
    with backup.backup("main", source, "main") as copy:
        copy.step()
    backup.close()
    source.close()
    other.enqueue([job() for _ in range(300)])
    assert engine.count() == other.count()
    os.replace(tmp_path / "backup", engine.database.path)
    for each in (engine, other):
        with pytest.raises(DatabaseGone):
            each.enqueue([job()])
        each.enqueue([job()])
        with pytest.raises(DatabaseGone):
            each.count()
    assert engine.count() == other.count() == {**dict.fromkeys(JobStatus, 0), JobStatus.READY: 12}
    assert is_intact(engine) == []
    other.close()


def test_what_runs_already_goes_on_when_a_newer_version_adds_columns(
    engine: SqliteEngine,
) -> None:
    """As in a deploy: the worker is still the old one, the database already the new one."""
    engine.enqueue([job() for _ in range(2)])  # the old version has the database open
    newer = apsw.Connection(str(engine.database.path))
    tables = ["attempts", "files", "jobs", "limits", "payloads", "queues", "results", "workers"]
    for table in tables:
        newer.execute(f"ALTER TABLE {table} ADD COLUMN colour TEXT")
    newer.close()
    register(engine, "w1", StoreOptions(kind="command", retention=KEEP, places=1, capacity=1))
    large = job("another")
    large.args = "x" * 10_000
    engine.enqueue([large])
    claims = SqliteClaims(engine, "w1", KEEP)
    good, bad, _ = claims.exchange([], {THREADS: 10}).claims
    outcomes = [
        Outcome(good.seq, good.attempt, Ending.SUCCESSFUL, 1.0, 2.0, result="1"),
        Outcome(bad.seq, bad.attempt, Ending.FAILED, 1.0, 2.0, error=Error("E", "text")),
    ]
    assert claims.exchange(outcomes, {}).refused == []
    assert engine.count()[JobStatus.SUCCESSFUL] == engine.count()[JobStatus.FAILED] == 1
