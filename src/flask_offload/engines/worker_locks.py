"""Which workers are alive: each holds a lock, which is free as soon as the worker is dead.

Each worker holds a lock on a file of its own in the run folder for as long as it lives. A
process that can acquire that lock knows that the worker is dead, however it died, and at once: no
heartbeat to write, no lease to tune, no false alarm for a worker that is slow or stopped.

Beside the lock is the worker's table of slots (see engines/slots.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from ..payload.private_folder import make_private
from .lock import Lock
from .slots import Slots


def run_folder(database: Path) -> Path:
    """Where the processes around a database keep their locks, slots and pipes."""
    return database.with_name(database.name + "-run")


class Registration:
    """A worker's presence in the run folder: its id, its lock, its slots, the path of its pipe."""

    def __init__(self, folder: Path, slots: int) -> None:
        make_private(folder)
        # a process that looks for dead workers may lock the new file first: then another name
        is_locked = False
        while not is_locked:
            self.id: str = f"w{os.getpid()}-{secrets.token_hex(4)}"
            self.lock: Lock = Lock(folder / f"{self.id}.lock")
            is_locked = self.lock.acquire()
        self.slots: Slots = Slots(folder / f"{self.id}.slots", slots)
        self.notifier_path: Path = folder / f"{self.id}.notify"

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
            with contextlib.suppress(OSError):  # on a disk that can't be written it stays open
                if lock.acquire():
                    found.append(lock)
    try:
        yield [lock.path.stem for lock in found]
    except BaseException:
        for lock in found:
            lock.release()
        raise
    for lock in found:
        for suffix in (".slots", ".notify"):
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
