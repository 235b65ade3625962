"""Which process is meant, for others on the machine, and whether it still runs.

A process id alone does not say: it may be another process's by now, or one of another container.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
ENDED = frozenset("ZX")
"""States of /proc/<pid>/stat: a zombie runs nothing more."""
STOPPED = "T"
"""By a signal; a debugger's is t."""


def boot() -> str:
    """Which run of the machine this is; "" where the system doesn't report it."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def identity(pid: int | None = None) -> str:
    """A line that names a process of this container, by default this one, for all time: its id,
    when it started, the run of the machine, the container. "" where the system doesn't report it.
    """
    pid = pid or os.getpid()
    found = _state_and_start(pid)
    return f"{pid} {found[1]} {_place()}" if found is not None else ""


def has_ended(line: str) -> bool:
    """Whether the process of this identity runs no more. False if that can't be told from here."""
    words = line.split()
    if len(words) != 4 or " ".join(words[2:]) != _place():
        return False
    pid = int(words[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    found = _state_and_start(pid)
    return found is not None and (found[0] in ENDED or found[1] != words[1])


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped this process; False while a debugger holds it."""
    found = _state_and_start(pid)
    return found is not None and found[0] == STOPPED


def _state_and_start(pid: int) -> tuple[str, str] | None:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return words[0], words[19]


def _place() -> str:
    """The run of the machine and the container, in two words."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{boot() or '-'} {namespace or '-'}"
