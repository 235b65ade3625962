"""The programs that jobs start: they end with the process of their job.

Each child process leads a process group, and what its tasks start belongs to that group, unless it
is given a session of its own (`subprocess.Popen(…, start_new_session=True)`): a daemon that is
meant to go on. The supervisor kills the group when the child has ended. When the supervisor was
killed too, the worker that recovers its jobs does so first, so that two runs never overlap; it
finds them by the id of the dead worker in their environment (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Container
from pathlib import Path

VARIABLE = "_OFFLOAD_WORKER_ID"
"""In the environment of each child process, and so of the programs that its tasks start."""
PR_SET_CHILD_SUBREAPER = 36
PROC = Path("/proc")


def lead_group() -> None:
    """In a new child: begin a process group. It is no terminal's foreground, so standard input
    is /dev/null: to read from the terminal would stop the process."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)


def kill_group(pid: int) -> None:
    """Kill what is left of the group of a child that has ended and is not reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def adopt_orphans() -> None:
    """Let programs whose parent has ended become children of this process (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(own: Container[int]) -> None:
    """Reap children of this process that it did not fork: programs that outlived their parent, and
    everything in a container whose first process this is. own: the pids that others reap."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def kill_programs_of(worker_id: str) -> int:
    """Kill the programs that jobs of a dead worker of this machine have left; their number."""
    mark = f"{VARIABLE}={worker_id}".encode()
    killed = 0
    for folder in PROC.glob("[0-9]*"):
        pid = int(folder.name)
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            has_own_session = os.getsid(pid) == os.getpgid(pid)
            if pid != os.getpid() and not has_own_session:
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed
