"""What `flask offload check` finds on the SQLite engine: each check is a function from the
situation to findings."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from ..config import Config
from ..engines.base import Finding, QueueInfo, ScheduleInfo
from ..engines.dialect import SQLITE
from ..engines.host import Host
from ..engines.sqlite.database import SAFE_SQLITE
from ..engines.sqlite.filesystem import NETWORK, filesystem_of
from ..engines.sqlite.maintenance import is_intact
from ..engines.sqlite.recovery import live_workers
from ..engines.sqlite.sender import SqliteSender
from ..engines.store import WorkerInfo
from ..errors import EngineUnavailable
from ..payload.private_folder import make_private
from ..payload.spool import show_bytes
from ..textui import duration, show_jobs
from .findings import schedule_findings, unknown_tasks
from .search import Search
from .sqlite_health import Health, read_health

STARVED_AFTER = 600.0
"""Seconds that a ready job may wait while younger ones of higher priority start."""
SLOW = 60.0
"""Seconds of waiting from which the oldest ready job is worth a word."""
GRACE = 30.0
"""Seconds that a living worker gets to notice what came due; it needs about one."""
CLOCK_STEP = 60.0
"""Seconds by which a written moment may be in the future: more is a clock that was set back."""
EARLIEST = 1_735_689_600.0
"""2025-01-01T00:00Z. An earlier time means that the clock was never set."""
LARGE_LOG = 64 * 1024 * 1024
"""Bytes to which SQLite cuts its write-ahead log (journal_size_limit) unless a reader holds it."""
LITTLE_SPACE = 64 * 1024 * 1024
LOOKS = 3


@dataclass(frozen=True)
class Situation:
    """What the checks look at. now: unix seconds."""

    host: Host
    now: float
    health: Health
    workers: list[WorkerInfo]
    queues: list[QueueInfo]
    schedules: list[ScheduleInfo]

    def servers(self, queue_name: str) -> list[WorkerInfo]:
        """The workers that take jobs of this queue."""
        return [
            worker
            for worker in self.workers
            if not worker.stopping and (worker.queues is None or queue_name in worker.queues)
        ]


STARTS_LATER = (
    "the web process starts one with its server, or with the first request if that server is not"
    " known"
)


def findings(engine: SqliteSender, host: Host) -> list[Finding]:
    """Every finding about the file, its workers and its jobs, in a fixed order."""
    path = engine.database.path
    found = [*check_sqlite(apsw.SQLITE_VERSION_NUMBER), *check_disk(path, host.config)]
    if path.exists():
        try:
            situation = _look(host, engine)
            found += check_database(engine, situation.health)
        except EngineUnavailable as error:
            return [*found, Finding("database", "problem", str(error))]
        found += check_files(path)
    else:
        situation = _nothing_yet(host)
        found += check_place(path)
    for check in (
        check_workers,
        check_queues,
        check_tasks,
        check_waiting,
        check_invariants,
        check_clock,
        check_schedules,
    ):
        found += check(situation)
    return found


def check_sqlite(version: int) -> Iterator[Finding]:
    """The SQLite that apsw brings. version: as SQLITE_VERSION_NUMBER."""
    shown = f"SQLite {version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
    if version < SAFE_SQLITE:
        message = f"{shown} has the WAL-reset bug, which can corrupt it: pip install -U apsw"
        yield Finding("sqlite", "problem", message)
    else:
        yield Finding("sqlite", "ok", f"{shown} (by apsw), with the fix of the WAL-reset bug")


def check_disk(path: Path, config: Config) -> Iterator[Finding]:
    """The file system: its locks must be real, and it must have free space."""
    folder = _existing(path)
    kind, free = filesystem_of(folder), shutil.disk_usage(folder).free
    name = "file system"
    if kind in NETWORK:
        use = "used all the same (OFFLOAD_SQLITE_FORCE)" if config.sqlite_force else "refused"
        message = f"{path} is on {kind}, whose locks can't be trusted: {use}. Use a local disk"
        yield Finding(name, "problem", message)
    elif free < LITTLE_SPACE:
        message = f"{show_bytes(free)} left for {path}: when the disk is full, no job is accepted"
        yield Finding(name, "problem", message)
    else:
        yield Finding(name, "ok", f"{kind or 'local'}, {show_bytes(free)} free")


def check_place(path: Path) -> Iterator[Finding]:
    """A database that is not there yet: whether it can be made."""
    folder = _existing(path)
    if os.access(folder, os.W_OK | os.X_OK):
        yield Finding("database", "ok", f"{path} is made with the first job")
    else:
        message = f"{path} can't be made: {folder} is not writable for this user"
        yield Finding("database", "problem", message)


def check_database(engine: SqliteSender, health: Health) -> Iterator[Finding]:
    """Whether it can be written and is whole. Raises EngineUnavailable."""
    path = engine.database.path
    engine.database.write(lambda connection: None, promise=False)
    broken = is_intact(engine)
    if broken:
        message = f"{path} is damaged ({'; '.join(broken)}): restore a backup"
        yield Finding("database", "problem", message)
    else:
        yield Finding("database", "ok", f"{path}, version {health.version}, quick_check ok")


def check_files(path: Path) -> Iterator[Finding]:
    """Who may read the files, whose they are, and how long the write-ahead log has grown."""
    places = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    files = {file: file.stat() for file in places if file.exists()}
    open_ones = {file: stat.S_IMODE(facts.st_mode) for file, facts in files.items()}
    open_ones = {file: mode for file, mode in open_ones.items() if mode & 0o077}
    for file, mode in open_ones.items():
        message = f"{file} has mode {mode:04o}, so others may read jobs: chmod 600 it"
        yield Finding("permissions", "problem", message)
    for file, facts in files.items():
        if facts.st_uid != os.geteuid():
            message = f"{file} belongs to user {facts.st_uid}, this command runs as {os.geteuid()}"
            yield Finding("permissions", "note", message)
    wrong = list(_foreign_folders(path))
    yield from (Finding("permissions", "problem", message) for message in wrong)
    if not open_ones and not wrong:
        yield Finding("permissions", "ok", "the files are readable by their owner alone")
    size = sum(facts.st_size for file, facts in files.items() if file.name.endswith("-wal"))
    shown = f"{show_bytes(size)} of write-ahead log"
    if size > LARGE_LOG:
        message = (
            f"{shown}: some program keeps the database open for reading, so it can't be emptied"
        )
        yield Finding("log size", "problem", message)
    else:
        yield Finding("log size", "ok", shown)


def _foreign_folders(path: Path) -> Iterator[str]:
    """What is wrong with the folders beside the database."""
    for suffix in ("-run", "-files"):
        folder = path.with_name(path.name + suffix)
        if folder.is_symlink() or folder.exists():
            try:
                make_private(folder)
            except OSError as error:
                yield str(error)


# --- the work ----------------------------------------------------------------------------------


def check_workers(at: Situation) -> Iterator[Finding]:
    """Whether a worker runs."""
    ready = _ready(at.health)
    if at.workers:
        yield Finding("worker", "ok", "; ".join(map(_described, at.workers)))
    elif at.host.config.worker == "off":
        waiting = f" and {ready}" if ready else ""
        message = f"OFFLOAD_WORKER is 'off', no worker runs{waiting}: start `flask offload worker`"
        yield Finding("worker", "problem", message)
    elif ready:
        message = (
            f"{ready} and no worker runs: {STARTS_LATER}; without a web process, start `flask"
            " offload worker`"
        )
        yield Finding("worker", "problem", message)
    else:
        yield Finding("worker", "note", f"none runs now: {STARTS_LATER}")


def check_queues(at: Situation) -> Iterator[Finding]:
    """Paused queues, and those that none of the running workers serves."""
    waiting: dict[str, int] = {}
    for (queue_name, _), count in at.health.waiting.items():
        waiting[queue_name] = waiting.get(queue_name, 0) + count
    paused = {queue.name for queue in at.queues if queue.paused_at is not None}
    findings = []
    for queue in at.queues:
        if queue.paused_at is not None:
            since = duration(max(0.0, at.now - queue.paused_at))
            message = f"{queue.name} is paused for {since}, with {show_jobs(queue.ready)} waiting"
            findings.append(Finding("queues", "note", message))
    used = {task.options.queue_name for task in at.host.registry.tasks.values()}
    for name in sorted(used | waiting.keys()):
        if at.workers and name not in paused and not at.servers(name):
            some = waiting.get(name, 0)
            reason = f"while {show_jobs(some)} in it wait" if some else "though a task uses it"
            message = f"no running worker serves {name}, {reason}: start one with --queue {name}"
            findings.append(Finding("queues", "problem" if some else "note", message))
    names = ", ".join(sorted({queue.name for queue in at.queues})) or "none used yet"
    yield from findings or [Finding("queues", "ok", names)]


def check_tasks(at: Situation) -> Iterator[Finding]:
    """Waiting jobs whose task this app does not have."""
    waiting: Counter[str] = Counter()
    for (_, task), count in at.health.waiting.items():
        waiting[task] += count
    return unknown_tasks(waiting, at.host.registry.find_task)


def check_waiting(at: Situation) -> Iterator[Finding]:
    """How long the oldest ready job has waited, and whether a low priority starves."""
    starved = [jobs for jobs in at.health.ready if jobs.overtaken]
    for jobs in starved:
        message = (
            f"{show_jobs(jobs.count)} of priority {jobs.priority} in {jobs.queue_name} starve: the"
            f" oldest has waited {duration(at.now - jobs.since)} while younger ones of higher"
            " priority started. Add threads or processes, or raise the priority"
        )
        yield Finding("waiting", "problem", message)
    if starved:
        return
    oldest = min(at.health.ready, key=lambda jobs: jobs.since, default=None)
    if oldest is None:
        yield Finding("waiting", "ok", "no job is ready and not started")
        return
    waited = max(0.0, at.now - oldest.since)
    message = f"the oldest ready job has waited {duration(waited)}, in {oldest.queue_name}"
    yield Finding("waiting", "note" if waited > SLOW else "ok", message)


def check_invariants(at: Situation) -> Iterator[Finding]:
    """What must never last: jobs that no worker runs or will run, against their rows."""
    alive = {worker.id for worker in at.workers}
    found = []
    for worker, count in at.health.running.items():
        if worker not in alive:
            remedy = "the living one has not put back" if alive else "the next one puts back"
            held = f"{show_jobs(count)} RUNNING under the dead worker {worker}"
            found.append(f"{held}: {remedy} what it held")
    for kind, key, count in at.health.stuck_keys:
        if alive or kind == "concurrency":
            found.append(
                f"{show_jobs(count)} waiting for the {kind} of {key!r}, which no job holds"
            )
    if at.health.overdue is not None and alive:
        late = duration(at.now - at.health.overdue)
        found.append(f"a scheduled job is {late} late, though a worker runs")
    yield from (Finding("invariants", "problem", message) for message in found)
    if not found:
        yield Finding("invariants", "ok", "no job is stuck")


def check_clock(at: Situation) -> Iterator[Finding]:
    """Whether the clock was never set, or was set back."""
    newest = at.health.newest
    if at.now < EARLIEST:
        yield Finding("clock", "problem", "the clock was never set: it shows a year before 2025")
    elif newest is not None and newest > at.now + CLOCK_STEP:
        message = (
            f"the database holds a moment {duration(newest - at.now)} in the future, so the clock"
            " was set back: schedules and delayed jobs wait until it has caught up"
        )
        yield Finding("clock", "problem", message)
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at.now)))


def check_schedules(at: Situation) -> Iterator[Finding]:
    """Schedules that are no longer declared, are disabled, or are late."""
    late = at.now - SLOW - GRACE if at.workers else None  # a worker looks at least once a minute
    yield from schedule_findings(at.schedules, at.host.registry.schedules, at.now, late)


# --- steps -------------------------------------------------------------------------------------


def _look(host: Host, engine: SqliteSender) -> Situation:
    """Read all there is. What looks like a dead worker's job may just have changed hands: look
    again before it counts."""
    for look in range(1, LOOKS + 1):
        health = read_health(engine, long=STARVED_AFTER, grace=GRACE)
        workers = live_workers(engine)
        if look == LOOKS or health.running.keys() <= {worker.id for worker in workers}:
            break
        time.sleep(1.0 if workers else 0.05)  # a living worker recovers once a second
    queues, schedules = engine.database.read(
        lambda connection: (
            Search(connection, SQLITE).queues(),
            Search(connection, SQLITE).schedules(),
        )
    )
    return Situation(host, engine.clock(), health, workers, queues, schedules)


def _nothing_yet(host: Host) -> Situation:
    return Situation(host, host.clock(), Health(), [], [], [])


def _ready(health: Health) -> str:
    """What could start this moment, in words; "" if nothing could."""
    queues = ", ".join(sorted({jobs.queue_name for jobs in health.ready}))
    if queues:
        return f"{show_jobs(sum(jobs.count for jobs in health.ready))} ready (in {queues})"
    return "a scheduled job is due" if health.overdue is not None else ""


def _described(worker: WorkerInfo) -> str:
    kind = {"kept": "kept by a web process", "thread": "threads of a web process"}
    queues: Iterable[str] = worker.queues if worker.queues is not None else ("all queues",)
    stopping = ", stopping" if worker.stopping else ""
    return (
        f"{worker.id} ({kind.get(worker.kind, 'flask offload worker')}, {', '.join(queues)},"
        f" {worker.capacity} threads{stopping})"
    )


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    return folder
