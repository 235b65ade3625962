"""Which process owns the write lock of a database while others wait for it.

A process that is stopped (^Z, SIGSTOP) in the middle of a transaction keeps the lock until it
continues. Its state is not changed from here: the error of a process that waited in vain names it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..processes import is_stopped

WRITE_LOCK = 120
"""The byte of the -shm file whose lock is the write lock: UNIX_SHM_BASE in SQLite's os_unix.c."""
LOCKS = Path("/proc/locks")


def write_lock_owner(database: Path, locks: Path = LOCKS) -> int | None:
    """The id of the process that owns the write lock; None if there is none, or it is not known.

    Read from /proc/locks (Linux): to ask for the lock itself, one would have to open the -shm file,
    and closing it again would drop all locks that this process has on it.
    """
    try:
        inode = os.stat(database.with_name(database.name + "-shm")).st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return None
    for line in lines:  # 7: POSIX  ADVISORY  WRITE 4711 fe:00:2162734 120 120
        words = line.split()
        if words[1] == "POSIX" and words[3] == "WRITE" and words[7] != "EOF":
            pid, number = int(words[4]), int(words[5].rpartition(":")[2])
            covers = int(words[6]) <= WRITE_LOCK <= int(words[7])  # a checkpoint locks more
            if number == inode and covers and pid > 0:  # 0: of another container
                return pid
    return None


def described(pid: int) -> str:
    """The process in words: its id, its command, and whether it is stopped."""
    command = ""
    with suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        command = " ".join(arguments.decode(errors="replace").split())  # in one line of a log
    text = command if len(command) <= 80 else command[:77] + "…"
    return f"process {pid} ({text}{', which is stopped' if is_stopped(pid) else ''})"
