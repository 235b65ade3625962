"""How a child comes to be: a fork before the app is imported, from a process without threads."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from flask import Flask

from .child import main
from .messages import Channel, FromChild

BUFFER = 1 << 18


def fork_child(
    in_child: Callable[[], None], load_app: Callable[[], Flask], threads: int | None
) -> tuple[int, Channel]:
    """Fork a child; its pid and the channel to it.

    in_child: closes, in the child, what belongs to the supervisor. load_app: imports the app there.
    threads: how many threads run its jobs; None takes the app's setting.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # what is there now is not to be copied by the child's collector
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(ours, theirs, in_child, load_app, threads, supervisor)
    theirs.close()
    return pid, Channel(ours, FromChild)


def _live(
    ours: socket.socket,
    theirs: socket.socket,
    in_child: Callable[[], None],
    load_app: Callable[[], Flask],
    threads: int | None,
    supervisor: int,
) -> NoReturn:
    try:
        ours.close()
        in_child()
    except BaseException:
        os._exit(1)
    main(theirs, load_app, threads, supervisor)
