"""Who holds the write lock of a database while others wait, and what can be done about it.

No code of ours dwells in a transaction. But a process that is stopped (^Z, SIGSTOP) just then keeps
the lock for as long as it is stopped, and everybody waits. It is woken, and stopped again as soon
as it has let go.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

WRITE_LOCK = 120
"""The byte of the -shm file whose lock is the write lock: UNIX_SHM_BASE in SQLite's os_unix.c."""
FINISHES_WITHIN = 1.0
"""Seconds that a woken process gets for the rest of its transaction."""
LOCKS = Path("/proc/locks")


def write_lock_holder(database: Path, locks: Path = LOCKS) -> int | None:
    """The process that holds the write lock; None if there is none, or the system doesn't tell.

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
    """A process in words, for whoever has to do something about it."""
    command = ""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        command = b" ".join(words).decode(errors="replace")
    text = command if len(command) <= 80 else command[:77] + "…"
    return f"process {pid} ({text}{', which is stopped' if is_stopped(pid) else ''})"


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped this process (not a debugger, whom we leave alone)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def wake_stopped_holder(database: Path) -> None:
    """If the holder of the write lock is stopped, let it run until it has let go."""
    pid = write_lock_holder(database)
    if pid is None or not is_stopped(pid):
        return
    logging.getLogger("flask_offload").warning(
        "%s holds the write lock of %s: it is woken until it has let go", described(pid), database
    )
    deadline = time.monotonic() + FINISHES_WITHIN
    with suppress(ProcessLookupError, PermissionError):
        while write_lock_holder(database) == pid:
            os.kill(pid, signal.SIGCONT)
            while write_lock_holder(database) == pid:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.001)
            os.kill(pid, signal.SIGSTOP)
