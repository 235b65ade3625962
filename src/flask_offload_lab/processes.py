"""The processes of this machine: which one started which, and `kill -9`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; command: its command line, with spaces between the words."""

    pid: int
    parent: int
    command: str


def descendants(pid: int) -> list[Process]:
    """The children of `pid`, their children, and so on; parents come before children."""
    children: dict[int, list[Process]] = {}
    for process in _running():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process; those that have ended are skipped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_now(pids: Iterable[int]) -> None:
    """`kill -9` each process; those that have ended are skipped."""
    send_signal(pids, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether a process has this id. The id may have been reused by an unrelated process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _running() -> Iterator[Process]:
    proc = Path("/proc")
    if (proc / "self" / "stat").exists():
        yield from _from_proc(proc)
        return
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,command="], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        pid, parent, command = line.split(maxsplit=2)
        yield Process(int(pid), int(parent), command)


def _from_proc(proc: Path) -> Iterator[Process]:
    """Linux; slim images have no `ps`."""
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended in between
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if state != "Z":
                yield Process(int(folder.name), int(parent), command)
