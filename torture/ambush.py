"""An axe that waits inside a process for a moment that no system call marks: once in all.

`SITE`, as sitecustomize.py in the path of a worker, lays the ambush that the environment names.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from proc import descendants

from .witness import axe

WHICH, DONE = "AMBUSH", "AMBUSH_DONE"
"""Environment variables: which moment; a file that is made when the axe falls."""

SITE = "from torture.ambush import lie_in_wait\nlie_in_wait()\n"


class Moment(NamedTuple):
    """Before or after a call of this function or method, if `only` agrees to its arguments.

    started: whether the job at the head of the queue has then begun, as far as anybody can tell.
    written: whether its end is in the database by then.
    """

    module: str
    method: str
    after: bool
    started: bool
    written: bool = False
    only: Callable[..., bool] = lambda *_, **__: True


def _carries_outcomes(_: object, message: Any) -> bool:
    return bool(getattr(message, "outcomes", None))


def _has_outcomes(_: object, outcomes: Any, room: object) -> bool:
    return bool(outcomes)


WORKER, SQLITE = "flask_offload.worker.", "flask_offload.engines.sqlite."
MOMENTS = {
    # called once something has been claimed, in the same transaction
    "claimed, not committed": Moment(SQLITE + "ledger", "note_starts", True, False),
    "claimed, not handed out": Moment(WORKER + "processes", "Processes.hand_out", False, False),
    "before the start is noted": Moment(SQLITE + "liveness", "Slots.start", False, False),
    "noted, before the first line": Moment(SQLITE + "liveness", "Slots.start", True, True),
    "done, not told": Moment(
        WORKER + "messages", "Channel.send", False, True, only=_carries_outcomes
    ),
    "told, not written": Moment(
        SQLITE + "ledger", "Ledger.exchange", False, True, only=_has_outcomes
    ),
    "written, not committed": Moment(SQLITE + "outcomes", "Books.finish", True, True),
    "committed, not settled": Moment(
        SQLITE + "ledger", "Ledger.exchange", True, True, True, _has_outcomes
    ),
}


def lie_in_wait() -> None:
    """Let this process, or a child that it forks, die at the moment that the environment names."""
    moment = MOMENTS[os.environ[WHICH]]
    owner: Any = importlib.import_module(moment.module)
    *path, name = moment.method.split(".")
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    @functools.wraps(original)
    def ambushed(*args: Any, **kwargs: Any) -> Any:
        is_now = moment.only(*args, **kwargs)
        if is_now and not moment.after:
            _die()
        result = original(*args, **kwargs)
        if is_now and moment.after:
            _die()
        return result

    setattr(owner, name, ambushed)


def _die() -> None:
    done = Path(os.environ[DONE])
    try:
        done.touch(exist_ok=False)
    except FileExistsError:
        return
    now, doomed = time.monotonic(), [os.getpid(), *descendants(os.getpid())]
    axe("ambush", now, doomed, until=now + 1)
    os.kill(os.getpid(), signal.SIGKILL)
