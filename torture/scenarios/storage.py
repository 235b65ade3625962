"""Disks that are full, read-only or at fault, and databases that somebody else holds or breaks."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from flask_offload import EngineUnavailable
from proc import alive, descendants
from support import require_tool, wait_until

from ..app import accept, offload, quick, slow
from ..disks import Image, tmpfs
from ..scenario import Run, scenario, show
from ..world import PYTHON, World

JOB = 1.0
"""Seconds of the jobs that end while the database can't be written."""


@scenario(
    "T8",
    "the disk of the database fills up while jobs are enqueued and others end; then there is room",
)
def full_disk(run: Run) -> None:
    errors: Counter[str] = Counter()
    times: list[float] = []
    died = 0
    folder = run.new_folder()
    with tmpfs(folder / "disk", "6m") as disk, World(folder, disk / "jobs.sqlite3") as world:
        with world.here():
            accept(quick.enqueue())
            worker = world.worker("--threads", "2")
            for number in range(run.size(2, 20)):
                family = _during_two_jobs(world, worker.pid)
                with _filled(disk):
                    errors.update(_enqueue_until_refused(f"queue-{number}"))
                    _wait_for_end(world)
                    died += sum(not alive(pid) for pid in family)
                times.append(_until_done(world, f"queue-{number}"))
        audit = world.audit()
    run.times("from room on the disk to the next job's end", times)
    run.judge(audit)
    run.gate("enqueue says that the disk is full", dict(errors), set(errors) == {"DatabaseFull"})
    run.gate("no process of the worker died", died, died == 0)
    run.gate("back at work within 5 s, without a restart", show(max(times)), max(times) <= 5)
    run.gate("what ended meanwhile is not run again", audit.again, audit.again == 0)


def _during_two_jobs(world: World, worker: int) -> list[int]:
    """Have two jobs running; the processes of the worker."""
    number = len(world.lines("start"))
    for _ in range(2):
        accept(slow.enqueue(JOB))
    world.wait_for_lines("start", number + 2)
    return [worker, *descendants(worker)]


def _wait_for_end(world: World) -> None:
    """Until the running jobs have ended, and the worker has tried to say so."""
    wait_until(lambda: len(world.lines("end")) == len(world.lines("start")), 20)
    time.sleep(1.0)


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """Leave no room on the disk for the time of the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


def _enqueue_until_refused(queue_name: str, most: int = 5000) -> list[str]:
    """How a few calls were refused, the first after as many as there was room for."""
    refusals: list[str] = []
    while len(refusals) < 3:
        try:
            accept(quick.using(queue_name=queue_name).enqueue())
            most -= 1
            assert most, "the database takes jobs as if nothing was the matter"
        except EngineUnavailable as error:
            refusals.append(type(error).__name__)
    return refusals


def _until_done(world: World, queue_name: str = "default") -> float:
    """Seconds until a new job is enqueued and everything is done."""
    began = time.monotonic()
    while True:
        try:
            accept(quick.using(queue_name=queue_name).enqueue())
            break
        except EngineUnavailable:
            assert time.monotonic() < began + 30, "no job is taken though all is well again"
            time.sleep(0.02)
    world.quiesce(20)
    return time.monotonic() - began


@scenario(
    "T8",
    "the file system of the database becomes read-only, as ext4 does when the disk fails; then the"
    " machine is started again",
)
def read_only_disk(run: Run) -> None:
    folder = run.new_folder()
    disk = Image(folder / "image", folder / "disk", 32)
    with World(folder, disk.folder / "jobs.sqlite3") as world, world.here():
        with disk.mounted():
            accept(quick.enqueue())
            worker = world.worker("--threads", "2")
            other = world.worker("--threads", "2")  # whose lock file can't be opened any more
            world.quiesce(10)
            _during_two_jobs(world, worker.pid)
            began = time.monotonic()
            disk.make_read_only()
            errors = Counter(_enqueue_until_refused("default"))
            _wait_for_end(world)
            time.sleep(2.0)
            living = [alive(process.pid) for process in (worker, other)]
            told = worker.output() + other.output()
            for process in (worker, other):
                world.kill("worker", process.pid)
            world.note("power", f"{began:.6f}")  # what was not synced is lost
            world.engine.close()
            offload.engine.close()
        with disk.mounted():
            refused = _starts_on_read_only(world, disk)
            world.burst()
            audit = world.audit()
    run.judge(audit)
    expected = {"DatabaseReadOnly"}
    run.gate("enqueue says that the disk is read-only", dict(errors), set(errors) == expected)
    run.gate(
        "the workers live on, and say so", f"{living}", all(living) and "Traceback" not in told
    )
    run.gate(
        "a worker refuses to start there, in a sentence", refused[:100], "can't start" in refused
    )


def _starts_on_read_only(world: World, disk: Image) -> str:
    """What a worker says that is started while the file system can't be written."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    process = world.worker("--burst", wait=False)
    process.wait(30)
    subprocess.run(["mount", "-o", "remount,rw", str(disk.folder)], check=True)
    return process.output()


HOLDER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(10_000)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another(database: Path) -> Iterator[None]:
    """Another program holds the write lock for the time of the block."""
    with subprocess.Popen(
        [PYTHON, "-c", HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield
        assert holder.stdin is not None
        holder.stdin.close()


@scenario(
    "T8",
    "another program holds the database locked for 30 s (4 s in the short form), while eight"
    " threads enqueue and two jobs end",
)
def locked(run: Run) -> None:
    hold, patience = (30.0, 5.0) if run.long else (4.0, 1.0)
    errors: Counter[str] = Counter()
    waits: list[float] = []
    with (
        World(run.new_folder(), FLASK_OFFLOAD_BUSY_TIMEOUT=f"{patience}") as world,
        world.here(OFFLOAD_BUSY_TIMEOUT=patience) as app,
    ):
        accept(quick.enqueue())
        worker = world.worker("--threads", "2")
        family = _during_two_jobs(world, worker.pid)

        def ask() -> None:
            with app.app_context():
                while time.monotonic() < until:
                    began = time.monotonic()
                    try:
                        accept(quick.enqueue())
                    except EngineUnavailable as error:
                        errors[type(error).__name__] += 1
                    waits.append(time.monotonic() - began)

        with locked_by_another(world.database):
            began = time.monotonic()
            until = began + hold
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        back = _until_done(world)
        died = sum(not alive(pid) for pid in family)
        audit = world.audit()
    run.times("wait of a refused enqueue", waits)
    run.figure("from the end of the lock to the end of all jobs", show(back))
    run.judge(audit)
    run.gate("enqueue says that it is locked", dict(errors), set(errors) == {"DatabaseLocked"})
    run.gate(
        f"no thread waits much longer than OFFLOAD_BUSY_TIMEOUT ({patience:g} s)",
        show(max(waits)),
        max(waits) <= patience + 1.5,
    )
    run.gate("no process of the worker died", died, died == 0)
    run.gate("back at work within 5 s, without a restart", show(back), back <= 5)
    run.gate("what ended meanwhile is not run again", audit.again, audit.again == 0)


@scenario(
    "T14",
    "a long reader keeps the write-ahead log from being emptied while jobs go on; then it ends",
)
def long_reader(run: Run) -> None:
    jobs = run.size(6_000, 200_000)
    with World(run.new_folder()) as world, world.here():
        accept(quick.enqueue())
        world.worker()
        world.quiesce(10)
        reader = apsw.Connection(str(world.database))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchall()
        for _ in range(0, jobs, 500):
            for job in offload.enqueue_many([quick.call() for _ in range(500)]):
                accept(job)
        world.quiesce(60)
        grown = _log_size(world)
        told = world.start(world.command("check"))
        told.wait(60)
        reader.execute("COMMIT")
        reader.close()
        began = time.monotonic()
        deadline = began + 30
        while _log_size(world) > BACK_TO and time.monotonic() < deadline:
            accept(quick.enqueue())
            time.sleep(0.1)
        took = time.monotonic() - began
        left = _log_size(world)
        world.quiesce(20)
        audit = world.audit()
    run.figure("write-ahead log while the reader reads", f"{grown / 1e6:.1f} MB")
    run.judge(audit)
    alarm = "kept from" in told.output() or "keeps the database open" in told.output()
    run.gate(
        "`flask offload check` tells of a large log",
        "yes" if alarm else f"no, at {grown / 1e6:.1f} MB",
        alarm or grown < 64e6,
    )
    run.gate(
        "the log is small again within 10 s of the reader's end",
        f"{left / 1e6:.1f} MB after {took:.1f} s",
        left <= BACK_TO and took <= 10,
    )


BACK_TO = 5_000_000
"""Bytes: SQLite's own limit of 1,000 pages, and some."""


def _log_size(world: World) -> int:
    return os.stat(f"{world.database}-wal").st_size


@scenario(
    "T8",
    "fsync fails now and then (EIO, by strace), under a process that enqueues and under a worker",
)
def fsync_errors(run: Run) -> None:
    every = 7
    strace = [require_tool("strace"), "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
    strace += ["-e", f"inject=fdatasync:error=EIO:when={every}+{every}"]
    jobs = run.size(200, 5_000)
    with World(run.new_folder()) as world:
        with world.here():
            accept(quick.enqueue())
        enqueuer = [PYTHON, "-m", "torture.enqueuer", f"{jobs}", f"{run.report.seed}", "0"]
        process = world.start([*strace, *enqueuer])
        worker = world.start([*strace, *world.command("worker", "--log-level", "error")])
        code = process.wait(300)
        world.quiesce(30)
        living = worker.popen.poll() is None
        refused = Counter(words[2] for words in world.lines("refused"))
        audit = world.audit()
    run.figure("one fsync in", every)
    run.judge(audit)
    run.gate("the enqueuer goes on", f"exit code {code}", code == 0)
    run.gate("it is told each time", dict(refused), sum(refused.values()) > 0)
    run.gate("the worker lives on", living, living)
    run.gate("no job ran twice", audit.again, audit.again == 0)


EXHAUSTED = """
import os, resource, sys
from flask_offload import EngineUnavailable
from torture.app import accept, create_app, quick
from torture.witness import note
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
log = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND)

def enqueue(count):
    done = 0
    for _ in range(count):
        try:
            job = quick.enqueue()
        except EngineUnavailable as error:
            print(type(error).__name__, error, flush=True)
        else:
            done += 1
            os.write(log, f"accepted 0 0 {job.id}\\n".encode())
    return done

def hoard():
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return held

app = create_app()
with app.app_context():
    held = hoard()
    before = enqueue(5)       # has never opened the database
    for descriptor in held:
        os.close(descriptor)
    between = enqueue(5)
    held = hoard()
    after = enqueue(5)        # has it open
    for descriptor in held:
        os.close(descriptor)
    print("accepted", before, between, after, enqueue(5), flush=True)
"""


@scenario("T8", "a process that enqueues runs out of file descriptors, and gets them back")
def descriptors(run: Run) -> None:
    with World(run.new_folder()) as world:
        process = world.start([PYTHON, "-c", EXHAUSTED])
        code = process.wait(60)
        told = process.output()
        world.burst()
        audit = world.audit()
    run.judge(audit)
    run.gate("the process goes on", f"exit code {code}", code == 0)
    counts = told.split("accepted")[-1].split()
    run.gate(
        "jobs accepted without, with, without, with descriptors",
        counts,
        counts == ["0", "5", "5", "5"],
    )
    run.gate("it is told what is wrong", told.splitlines()[:1], "descriptors" in told)
