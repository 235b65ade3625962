"""Database files that are damaged, deleted or replaced, and power that fails."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from flask_offload import EngineUnavailable
from proc import alive, descendants

from ..app import accept, offload, quick
from ..disks import Image
from ..scenario import Run, scenario
from ..world import PYTHON, World


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _spoil_header(path: Path, chance: random.Random) -> None:
    _write_at(path, 0, chance.randbytes(100))


def _spoil_one_page(path: Path, chance: random.Random) -> None:
    """Any but the first, with the schema."""
    page = chance.randrange(3, path.stat().st_size // 4096)
    _write_at(path, page * 4096, chance.randbytes(4096))


def _spoil_pages(path: Path, chance: random.Random) -> None:
    """Every page after the first three."""
    for offset in range(3 * 4096, path.stat().st_size, 4096):
        _write_at(path, offset + 16, chance.randbytes(1024))


def _cut_in_half(path: Path, chance: random.Random) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _replace_by_another_program(path: Path, chance: random.Random) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def _replace_by_folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_text(path: Path, chance: random.Random) -> None:
    path.write_text("Dear diary, " * 1000)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "its header overwritten": _spoil_header,
    "one of its pages overwritten": _spoil_one_page,
    "all of its pages overwritten": _spoil_pages,
    "cut in half": _cut_in_half,
    "replaced by another program's database": _replace_by_another_program,
    "replaced by a text": _replace_by_text,
    "replaced by a folder": _replace_by_folder,
}


@scenario(
    "T9",
    "a worker is started on a database that is damaged or no job database; then a backup is put"
    " in its place",
)
def damaged(run: Run) -> None:
    wrong: list[str] = []
    rounds = run.size(1, 7)
    for name, do in [*DAMAGES.items()] * rounds:
        with run.world() as world, world.here():
            for _ in range(100):
                accept(quick.enqueue())
            _let_go(world)
            backup = world.folder / "backup"
            shutil.copy(world.database, backup)
            do(world.database, run.chance)
            damage = _fingerprint(world.database)
            worker = world.worker("--burst", wait=False)
            code = worker.wait(60)
            sentence = worker.output().startswith("The worker can't start: ")
            if code != 1 or not sentence or len(worker.output().splitlines()) != 1:
                wrong.append(f"{name}: exit code {code}, {worker.output()[-300:]}")
            if _fingerprint(world.database) != damage:
                wrong.append(f"{name}: the file was changed")
            _remove(world.database)
            shutil.copy(backup, world.database)
            world.burst()
            audit = world.audit()
            if audit.done != 100 or audit.violations:
                wrong.append(f"{name}: {audit.done} of 100 done, {audit.violations}")
    run.figure("kinds of damage", f"{len(DAMAGES)}, {rounds} times each")
    run.gate(
        "a worker refuses each in a sentence, and changes nothing; the backup's jobs are all done",
        wrong or "yes",
        not wrong,
    )


def _fingerprint(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b"a folder"


def _let_go(world: World) -> None:
    """Close all connections, so that the whole database is in its one file."""
    world.engine.close()
    offload.engine.close()


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _spoil_log(log: Path, chance: random.Random) -> None:
    _write_at(log, chance.randrange(32, log.stat().st_size), chance.randbytes(5000))


def _cut_log(log: Path, chance: random.Random) -> None:
    os.truncate(log, chance.randrange(log.stat().st_size))


LOG_DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "its -shm deleted": lambda log, _: log.with_name(log.name[:-4] + "-shm").unlink(),
    "its -wal overwritten somewhere": _spoil_log,
    "its -wal cut off somewhere": _cut_log,
    "its -wal deleted": lambda log, _: log.unlink(),
}
JOBS_IN_LOG = 200
ENQUEUES = f"""
import os, signal
from torture.app import accept, create_app, quick
with create_app().app_context():
    for _ in range({JOBS_IN_LOG}):
        accept(quick.enqueue())
os.kill(os.getpid(), signal.SIGKILL)
"""


@scenario(
    "T9",
    "a process dies and leaves jobs in the write-ahead log, which is then damaged or deleted: what"
    " stands before the damage is done, and no half of anything",
)
def damaged_log(run: Run) -> None:
    wrong: list[str] = []
    left: Counter[str] = Counter()
    rounds = run.size(1, 13)
    for name, do in [*LOG_DAMAGES.items()] * rounds:
        with run.world() as world:
            with world.here():
                accept(quick.enqueue())  # which is in the file itself
            world.start([PYTHON, "-c", ENQUEUES]).wait(60)
            do(Path(f"{world.database}-wal"), run.chance)
            world.burst()
            audit = world.audit()
        left[name] += audit.done - 1
        whole = name == "its -shm deleted"
        if audit.integrity != "ok" or audit.stuck or audit.waiting or audit.failed:
            wrong.append(f"{name}: {audit}")
        if audit.done < 1 or audit.done + audit.lost != audit.accepted or (whole and audit.lost):
            wrong.append(f"{name}: {audit.done} of {audit.accepted} done")
    for name, count in left.items():
        run.figure(f"{name}: jobs of the log that are left", f"{count} of {JOBS_IN_LOG * rounds}")
    run.gate("what can be read is done, the file is intact", wrong[:3] or "yes", not wrong)


@scenario(
    "T9",
    "the database file is deleted, then replaced by a backup, while a worker and an enqueuing"
    " process use it",
)
def replaced(run: Run) -> None:
    told: list[str] = []
    with run.world() as world, world.here():
        worker = world.worker()
        family = [worker.pid, *descendants(worker.pid)]
        for _ in range(run.size(2, 20)):
            _enqueue_and_wait(world, 20)
            backup = world.folder / "backup"
            _copy_of(world.database, backup)
            _enqueue_and_wait(world, 200)  # more than the backup knows, still in the log
            os.replace(backup, world.database)
            told += _refusals()
            world.engine.close()
            _enqueue_and_wait(world, 20)
        world.database.unlink()
        told += _refusals()
        world.engine.close()
        number = len(world.lines("end"))
        _enqueue_and_wait(world, 20)
        ended = len(world.lines("end")) - number
        died = sum(not alive(pid) for pid in family)
        integrity = world.audit().integrity
    run.gate(
        "an enqueue says once that the file is gone, then the next is accepted",
        dict(Counter(told)),
        set(told) == {"DatabaseGone"},
    )
    run.gate("what is accepted after that is done", f"{ended} of 20", ended >= 20)
    run.gate("no process of the worker died", died, died == 0)
    run.gate("the database is intact", integrity, integrity == "ok")


def _enqueue_and_wait(world: World, count: int) -> None:
    for _ in range(count):
        accept(quick.enqueue())
    world.quiesce(20)
    left = world.unfinished()
    assert left == 0, f"{left} jobs are not done"


def _copy_of(database: Path, backup: Path) -> None:
    """A backup as SQLite makes it, of a database in use."""
    source, target = apsw.Connection(str(database)), apsw.Connection(str(backup))
    with target.backup("main", source, "main") as copy:
        copy.step()
    source.close()
    target.close()


def _refusals() -> list[str]:
    """How enqueue is refused until it is accepted again."""
    names: list[str] = []
    while True:
        try:
            accept(quick.enqueue())
            return names
        except EngineUnavailable as error:
            names.append(type(error).__name__)
            assert len(names) < 10


@scenario(
    "T7",
    "the power fails (an ext4 is shut down without a flush, at a random moment) while two processes"
    " enqueue and a worker works; then the machine starts again",
)
def power_loss(run: Run) -> None:
    rounds = run.size(3, 200)
    folder = run.new_folder()
    disk = Image(folder / "image", folder / "disk", 64)
    with World(folder, disk.folder / "jobs.sqlite3") as world:
        for _ in range(rounds):
            with disk.mounted():
                _pretend_reboot(world.database)
                worker = world.worker(wait=False)
                seeds = [run.chance.randrange(10**9) for _ in range(2)]
                enqueuers = [world.enqueuer(10**6, seed, 0.002) for seed in seeds]
                number = len(world.lines("accepted"))
                world.wait_for_lines("accepted", number + 20)
                time.sleep(run.chance.uniform(0.0, 0.5))
                began = time.monotonic()
                disk.cut_power()
                for process in (worker, *enqueuers):
                    world.kill("power", process.pid)
                world.note("power", f"{began:.6f}")
        with disk.mounted():
            _pretend_reboot(world.database)
            world.worker()
            world.quiesce(60)
            audit = world.audit()
    run.figure("power cuts", rounds)
    run.figure(
        "not counted: accepted while the disk was being cut off, and lost", audit.lost_in_cut
    )
    run.judge(audit)
    if run.long:
        lost = sum(_lost_without_fsync(run) for _ in range(10))
        run.gate("without fsync jobs are lost, so that this would notice", lost, lost > 0)


def _lost_without_fsync(run: Run) -> int:
    """How many jobs a power cut takes with OFFLOAD_DURABILITY="process"."""
    folder = run.new_folder()
    disk = Image(folder / "image", folder / "disk", 64)
    env: dict[str, Any] = {"FLASK_OFFLOAD_DURABILITY": "process"}
    with World(folder, disk.folder / "jobs.sqlite3", **env) as world:
        with disk.mounted():
            enqueuer = world.enqueuer(10**6, run.chance.randrange(10**9), 0.002)
            world.wait_for_lines("accepted", 200)
            disk.cut_power()
            world.kill("power", enqueuer.pid)
        with disk.mounted():
            world.engine.count()  # makes it anew if not even the file has got to the disk
            return world.audit().lost


def _pretend_reboot(database: Path) -> None:
    """The machine goes on though its disk lost its power: tell the workers of before from those of
    now, as the kernel's boot id does after a real power cut. No process has the database open."""
    if database.exists():
        connection = apsw.Connection(str(database))
        if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'workers'").get:
            connection.execute("UPDATE workers SET boot = 'before the power cut'")
        connection.close()
