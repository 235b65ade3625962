"""Who is alive: a lock that the kernel lets go when its holder dies.

Each worker holds a lock on a file of its own in the run folder for as long as it lives. Whoever
can take that lock knows that the worker is dead, however it died, and at once: no heartbeat to
write, no lease to tune, no false alarm for a worker that is slow or stopped.

Beside the lock lies the worker's table of slots, shared memory in a file: which of the jobs that it
holds have really started. It outlives the worker, but not the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import secrets
import struct
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

RECORD = struct.Struct("=qd")  # seq of the job, when it started (monotonic seconds; 0: not yet)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def run_folder(database: Path) -> Path:
    """Where the processes around a database keep their locks and bells."""
    return database.with_name(database.name + "-run")


def boot() -> str:
    """Which run of the machine this is; "" where the system doesn't tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """An exclusive lock on a file, held until released or until this process is dead.

    It is `flock`, bound to the open file, so a forked child drops its copy: else the lock would
    outlive us with any process that a task or a view has forked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Try to take it, without waiting. The file is made if needed."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the file may have been removed between opening and locking it
            ours = os.fstat(descriptor).st_ino == os.stat(self.path).st_ino
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self, *, remove: bool = False) -> None:
        """Let it go; with `remove`, delete the file first, while nobody else can hold it."""
        if self._descriptor is not None:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def abandon(self) -> None:
        """In a forked child: drop the copy; the parent's lock stays."""
        self.release()


class Slots:
    """Which jobs a worker holds, and which of them have started. Shared with its children.

    A ticket is a place in the table; the worker gives one to each job that it hands out. A child
    opens the same file, without `count`, and only ever calls `start`.
    """

    def __init__(self, path: Path, count: int | None = None) -> None:
        self.path = path
        self._free = list(range((count or 0) - 1, -1, -1))
        new = os.O_CREAT | os.O_EXCL if count is not None else 0
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | new, 0o600)
        try:
            # written in full, as to store into a hole on a full disk would kill us (SIGBUS)
            empty = bytes((count or 0) * RECORD.size)
            while empty:
                empty = empty[os.write(descriptor, empty) :]
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)

    @property
    def room(self) -> int:
        """How many more jobs can be noted."""
        return len(self._free)

    def take(self, seq: int) -> int:
        """Note a job that is about to be handed out; returns its ticket."""
        ticket = self._free.pop()
        RECORD.pack_into(self._memory, ticket * RECORD.size, seq, 0.0)
        return ticket

    def give_back(self, ticket: int) -> None:
        """Forget a job that is done with."""
        RECORD.pack_into(self._memory, ticket * RECORD.size, 0, 0.0)
        self._free.append(ticket)

    def start(self, ticket: int, seq: int) -> None:
        """Called by whoever runs the job, just before its first line."""
        RECORD.pack_into(self._memory, ticket * RECORD.size, seq, time.monotonic())

    def started_at(self, ticket: int) -> float | None:
        """When the ticket's job started (monotonic seconds); None if it has not."""
        return RECORD.unpack_from(self._memory, ticket * RECORD.size)[1] or None

    def close(self) -> None:
        """Remove the file; memory that children share stays theirs."""
        self.path.unlink(missing_ok=True)
        self._memory.close()


def read_started(path: Path) -> set[int] | None:
    """The jobs that had started, from a dead worker's table; None if it can't be told."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    usable = len(data) - len(data) % RECORD.size
    return {seq for seq, started in RECORD.iter_unpack(data[:usable]) if seq and started}


class Registration:
    """A worker's presence in the run folder: its id, its lock, its slots, its place for a bell."""

    def __init__(self, folder: Path, slots: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # somebody who looks for dead workers may lock a new file before we can: then another name
        is_ours = False
        while not is_ours:
            self.id = f"w{os.getpid()}-{secrets.token_hex(4)}"
            self.lock = Lock(folder / f"{self.id}.lock")
            is_ours = self.lock.acquire()
        self.slots = Slots(folder / f"{self.id}.slots", slots)
        self.bell_path = folder / f"{self.id}.bell"

    def close(self) -> None:
        """Leave, after everything that the worker held has been put back."""
        self.slots.close()
        self.lock.release(remove=True)


@contextlib.contextmanager
def dead_workers(folder: Path, own: str) -> Iterator[list[str]]:
    """The ids of workers that are dead. Their locks are held inside the block and their files
    removed after it, so that one recoverer at a time looks after them."""
    found: list[Lock] = []
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith("w"))
    except FileNotFoundError:
        names = []
    for name in names:
        if name.endswith(".lock") and name != f"{own}.lock":
            lock = Lock(folder / name)
            with contextlib.suppress(OSError):  # on a disk that can't be written, nobody can tell
                if lock.acquire():
                    found.append(lock)
    try:
        yield [lock.path.stem for lock in found]
    except BaseException:
        for lock in found:
            lock.release()
        raise
    for lock in found:
        for suffix in (".slots", ".bell"):
            lock.path.with_suffix(suffix).unlink(missing_ok=True)
        lock.release(remove=True)


def other_workers(folder: Path, own: str) -> set[int]:
    """The process ids of the workers, alive or dead, that have a lock file and are not `own`."""
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    found = (re.fullmatch(r"(w(\d+)-\w+)[.]lock", name) for name in names)
    return {int(match[2]) for match in found if match and match[1] != own}


def is_alive(folder: Path, worker_id: str) -> bool:
    """Whether the worker of this id still holds its lock."""
    path = folder / f"{worker_id}.lock"
    if not path.exists():
        return False
    lock = Lock(path)
    if lock.acquire():
        lock.release()
        return False
    return True


def _after_fork() -> None:
    for lock in list(_locks):
        lock.abandon()


os.register_at_fork(after_in_child=_after_fork)
