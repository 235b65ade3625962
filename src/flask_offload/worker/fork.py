"""How a child comes to be: a fork before the app is imported, from a process without threads."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable

from flask import Flask

from .announcer import SharedCount
from .child import main
from .messages import Channel, FromChild
from .programs import lead_group

BUFFER = 1 << 18
PAUSES = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a child is replaced that died before it was ready, by how often in a row."""
HOPELESS = 4
"""So many deaths in a row before any child was ready: importing the app is what kills them."""


class Starts:
    """How often in a row a child has died before it was ready, and when to try again."""

    def __init__(self) -> None:
        self._failures = 0
        self._not_before = 0.0

    def succeeded(self) -> None:
        """A child is ready."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """One died before. now: monotonic seconds."""
        self._not_before = now + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1

    def pause(self, now: float) -> float:
        """Seconds to wait before the next start."""
        return max(0.0, self._not_before - now)

    @property
    def is_hopeless(self) -> bool:
        """Whether it makes no sense to go on, if no child was ever ready."""
        return self._failures >= HOPELESS


def fork_child(
    in_child: Callable[[], None],
    load_app: Callable[[], Flask],
    threads: int | None,
    *,
    isolated: bool,
) -> tuple[int, Channel, SharedCount]:
    """Fork a child; its pid, the channel to it, and the count of signals that it has sent for the
    supervisor.

    in_child: closes, in the child, what belongs to the supervisor. load_app: imports the app there.
    threads: how many threads run its jobs; None takes the app's setting. isolated: it runs one job,
    in its main thread.
    """
    supervisor_end, child_end = socket.socketpair()
    for end in (supervisor_end, child_end):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # what is there now is not to be copied by the child's collector
    supervisor, announced = os.getpid(), SharedCount()
    pid = os.fork()
    if pid == 0:
        try:
            lead_group()
            supervisor_end.close()
            in_child()
        except BaseException:
            os._exit(1)
        main(child_end, load_app, threads, supervisor, announced, isolated=isolated)
    with contextlib.suppress(OSError):  # the child does the same: the first one counts
        os.setpgid(pid, pid)
    child_end.close()
    return pid, Channel(supervisor_end, FromChild), announced
