"""Disks that are full, read-only or at fault, files that may not grow, no descriptors left."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_offload import EngineUnavailable
from proc import alive, descendants
from support import require_tool, wait_until

from ..app import accept, offload, quick, slow
from ..auditor import Audit
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
            for number in range(run.size(2, 50)):
                family = during_two_jobs(world, worker.pid)
                with _filled(disk):
                    errors.update(_enqueue_until_refused(f"queue-{number}"))
                    _wait_for_end(world)
                    died += sum(not alive(pid) for pid in family)
                times.append(until_done(world, f"queue-{number}"))
        audit = world.audit()
    run.times("from room on the disk to the next job's end", times)
    run.judge(audit)
    run.gate("enqueue says that the disk is full", dict(errors), set(errors) == {"DatabaseFull"})
    run.gate("no process of the worker died", died, died == 0)
    run.gate("back at work within 5 s, without a restart", show(max(times)), max(times) <= 5)
    run.gate("what ended meanwhile is not run again", audit.again, audit.again == 0)
    none_refused_is_there(run, audit)


def none_refused_is_there(run: Run, audit: Audit) -> None:
    """No process died here, so every job was either accepted or refused."""
    found = audit.unacknowledged
    run.gate("what was refused is not in the database", found, found == 0)


def during_two_jobs(world: World, worker: int) -> list[int]:
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


def until_done(world: World, queue_name: str = "default") -> float:
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
    rounds = run.size(1, 20)
    whole = Audit()
    errors: Counter[str] = Counter()
    wrong: list[str] = []
    for _ in range(rounds):
        _one_read_only_disk(run, whole, errors, wrong)
    run.figure("disks", rounds)
    run.judge(whole)
    expected = {"DatabaseReadOnly"}
    run.gate("enqueue says that the disk is read-only", dict(errors), set(errors) == expected)
    run.gate(
        "the workers live on, and say so; a worker refuses to start there, in a sentence",
        wrong[:3] or "yes",
        not wrong,
    )


def _one_read_only_disk(run: Run, whole: Audit, errors: Counter[str], wrong: list[str]) -> None:
    folder = run.new_folder()
    disk = Image(folder / "image", folder / "disk", 32)
    with World(folder, disk.folder / "jobs.sqlite3") as world, world.here():
        with disk.mounted():
            accept(quick.enqueue())
            worker = world.worker("--threads", "2")
            other = world.worker("--threads", "2")  # whose lock file can't be opened any more
            world.quiesce(10)
            during_two_jobs(world, worker.pid)
            began = time.monotonic()
            disk.make_read_only()
            errors.update(_enqueue_until_refused("default"))
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
            whole.add(world.audit())
    if not all(living) or "Traceback" in told:
        wrong.append(f"{living}: {told[-300:]}")
    if "can't start" not in refused:
        wrong.append(refused[-300:])


def _starts_on_read_only(world: World, disk: Image) -> str:
    """What a worker says that is started while the file system can't be written."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    process = world.worker("--burst", wait=False)
    process.wait(60)
    subprocess.run(["mount", "-o", "remount,rw", str(disk.folder)], check=True)
    return process.output()


@scenario(
    "T8",
    "fsync fails now and then (EIO, by strace), under a process that enqueues and under a worker",
)
def fsync_errors(run: Run) -> None:
    every = 7
    strace = [require_tool("strace"), "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
    strace += ["-e", f"inject=fdatasync:error=EIO:when={every}+{every}"]
    jobs = run.size(200, 5_000)
    with run.world() as world:
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
    # a checkpoint syncs, too, and its errors need no report
    run.gate("it is reported", dict(refused), sum(refused.values()) > jobs / every / 4)
    run.gate("the worker lives on", living, living)
    run.gate("no job ran twice", audit.again, audit.again == 0)
    none_refused_is_there(run, audit)


EXHAUSTED = """
import os, resource, sys
from flask_offload import EngineUnavailable
from torture.app import accept, create_app, quick
from torture.event_log import note
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
log = os.open(os.environ["EVENT_LOG"], os.O_WRONLY | os.O_APPEND)

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
    for _ in range(int(sys.argv[1])):
        held = hoard()
        before = enqueue(5)       # has the database closed
        for descriptor in held:
            os.close(descriptor)
        between = enqueue(5)
        held = hoard()
        after = enqueue(5)        # has it open
        for descriptor in held:
            os.close(descriptor)
        print("accepted", before, between, after, enqueue(5), flush=True)
        app.extensions["offload"].engine.database.close()
"""


@scenario("T8", "a process that enqueues runs out of file descriptors, and gets them back")
def descriptors(run: Run) -> None:
    rounds = run.size(2, 50)
    with run.world() as world:
        process = world.start([PYTHON, "-c", EXHAUSTED, f"{rounds}"])
        code = process.wait(120)
        told = process.output()
        world.burst()
        audit = world.audit()
    run.judge(audit)
    run.gate("the process goes on", f"exit code {code}", code == 0)
    lines = told.splitlines()
    counts = Counter(line for line in lines if line.startswith("accepted"))
    run.gate(
        "jobs accepted without, with, without, with descriptors",
        dict(counts),
        counts == {"accepted 0 5 5 5": rounds},
    )
    said = Counter(line.split()[0] for line in lines if not line.startswith("accepted"))
    run.gate("the error says what is wrong", dict(said), said == {"TooManyFiles": 5 * rounds})
    none_refused_is_there(run, audit)


LIMITED = """
import os, resource, sys
from collections import Counter
from flask_offload import EngineUnavailable
from torture.app import accept, create_app, message, quick
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
database = os.environ["FLASK_OFFLOAD_SQLITE_PATH"]
errors, taken = Counter(), 0
with create_app().app_context():
    accept(quick.enqueue())
    for _ in range(int(sys.argv[1])):
        log = os.stat(database + "-wal").st_size
        size = max(log, os.stat(database).st_size, os.stat(os.environ["EVENT_LOG"]).st_size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 65536, hard))
        refused = 0
        while refused < 3:
            try:
                accept(message.enqueue("x" * 4000))
            except EngineUnavailable as error:
                errors[type(error).__name__] += 1
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        accept(quick.enqueue())
        taken += 1
print(taken, *errors, flush=True)
"""


@scenario("T8", "a process that enqueues may not let its files grow (RLIMIT_FSIZE), and then may")
def file_size(run: Run) -> None:
    rounds = run.size(2, 50)
    with run.world() as world:
        process = world.start([PYTHON, "-c", LIMITED, f"{rounds}"])
        code = process.wait(120)
        told = process.output().split()
        world.burst()
        audit = world.audit()
    run.judge(audit)
    run.gate("the process goes on", f"exit code {code}", code == 0)
    run.gate("enqueue says that there is no room", told[1:], told[1:] == ["DatabaseFull"])
    run.gate("and takes jobs when there is", told[:1], told[:1] == [f"{rounds}"])
    none_refused_is_there(run, audit)
