"""What /proc says about processes and descriptors. Where there is none (macOS), nothing is seen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")
AVAILABLE = Path("/proc/self/stat").exists()


def pids() -> set[int]:
    """Every process on this machine that we can see."""
    return {int(name) for name in os.listdir(PROC) if name.isdigit()} if AVAILABLE else set()


def _stat(pid: int, thread: str | None = None) -> list[str]:
    """State, parent and the fields that follow; empty when the process or thread is gone."""
    folder = PROC / str(pid)
    try:
        text = (
            (folder / "task" / thread if thread else folder)
            .joinpath("stat")
            .read_text(errors="replace")
        )
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The second field is the program's name in parentheses, which may hold anything.
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    if AVAILABLE:
        return _stat(pid)[:1] not in ([], ["Z"], ["X"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Inside the block these processes are stopped by SIGSTOP, with all their threads.

    The signal is for one thread, which stops the others once it runs. On a busy machine that is
    later than the return of kill(), and a server may answer in between.
    """
    members = list(pids)
    try:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 30
        while any(_has_running_thread(pid) for pid in members):
            assert time.monotonic() < deadline, f"not stopped by SIGSTOP: {members}"
            time.sleep(0.001)
        yield
    finally:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _has_running_thread(pid: int) -> bool:
    states = [_stat(pid, thread)[:1] for thread in _threads(pid)]
    return any(state not in ([], ["T"], ["t"], ["Z"], ["X"]) for state in states)


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(PROC / str(pid) / "task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def parent(pid: int) -> int | None:
    """The parent's process id; None when the process is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, zombies included, parents first."""
    children: dict[int, list[int]] = {}
    for candidate in sorted(pids()):
        if (above := parent(candidate)) is not None:
            children.setdefault(above, []).append(candidate)

    def below(root: int) -> Iterator[int]:
        for child in children.get(root, []):
            yield child
            yield from below(child)

    return list(below(pid))


def process_group(leader: int) -> list[int]:
    """Who belongs to the leader's group, orphans included, and what came from it."""
    members = [pid for pid in sorted(pids()) if _stat(pid)[2:3] == [str(leader)]]
    return list(dict.fromkeys([leader, *members, *descendants(leader)]))


def processes_marked(mark: str, among: set[int] | None = None) -> list[int]:
    """Live processes that were started with `NAME=value` in their environment, orphans included."""
    wanted = mark.encode()
    found = []
    for pid in sorted(pids() if among is None else among):
        with suppress(OSError):
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0") and alive(pid):
                found.append(pid)
    return found


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it is gone or not readable."""
    try:
        text = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.split("\0") if "=" in line)
    return {name: value for name, _, value in pairs}


def command_line(pid: int) -> str:
    """The command line of a process, as `ps` shows it; empty when it is gone."""
    with suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return b" ".join(words).decode(errors="replace")
    return ""


def open_descriptors() -> dict[int, str]:
    """What each of our own descriptors points at: a path, `socket:[inode]`, `pipe:[inode]`."""
    folder = Path("/proc/self/fd")
    found: dict[int, str] = {}
    if AVAILABLE:
        for name in os.listdir(folder):  # names are all we need
            with suppress(OSError):  # the listing's own descriptor is closed by now
                found[int(name)] = str((folder / name).readlink())
    return found
