"""Kill a process at a moment that no system call marks, from inside: once in all.

`SITE`, as sitecustomize.py in the path of a worker, arms the kill point that the environment names.
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

from .event_log import record_kill

WHICH, STORE, DONE = "KILL_POINT", "KILL_POINT_STORE", "KILL_POINT_DONE"
"""Environment variables: which moment, of which store; a file that is made when the process is
killed."""

SITE = "from torture.kill_points import arm\narm()\n"


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


SLOTS = "flask_offload.engines.slots"
WORKER, SQLITE = "flask_offload.worker.", "flask_offload.engines.sqlite."
MOMENTS = {
    # called once something has been claimed, in the same transaction
    "claimed, not committed": Moment(SQLITE + "claims", "note_starts", True, False),
    "claimed, not submitted": Moment(WORKER + "process_pool", "ProcessPool.submit", False, False),
    "before the start is noted": Moment(SLOTS, "Slots.start", False, False),
    "noted, before the first line": Moment(
        "flask_offload.engines.slots", "Slots.start", True, True
    ),
    "done, not reported": Moment(
        WORKER + "messages", "Channel.send", False, True, only=_carries_outcomes
    ),
    "reported, not written": Moment(
        SQLITE + "claims", "SqliteClaims.exchange", False, True, only=_has_outcomes
    ),
    "written, not committed": Moment(SQLITE + "completion", "Completion.finish", True, True),
    "committed, not acknowledged": Moment(
        SQLITE + "claims", "SqliteClaims.exchange", True, True, True, _has_outcomes
    ),
}


POSTGRES = "flask_offload.engines.postgres."
ON_POSTGRES = {
    "claimed, not committed": Moment(POSTGRES + "claims", "note_starts", True, False),
    "reported, not written": Moment(
        POSTGRES + "claims", "PostgresClaims.exchange", False, True, only=_has_outcomes
    ),
    "written, not committed": Moment(POSTGRES + "completion", "BatchCompletion.finish", True, True),
    "committed, not acknowledged": Moment(
        POSTGRES + "claims", "PostgresClaims.exchange", True, True, True, _has_outcomes
    ),
}
MOMENTS_OF = {"sqlite": MOMENTS, "postgres": {**MOMENTS, **ON_POSTGRES}}
"""By the store; each has the same names."""


def target(moment: Moment) -> tuple[Any, str, Any]:
    """What has the function of this moment, its name there, and the function."""
    owner: Any = importlib.import_module(moment.module)
    *path, name = moment.method.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name)


def arm() -> None:
    """Let this process, or a child that it forks, die at the moment that the environment names."""
    moment = MOMENTS_OF[os.environ[STORE]][os.environ[WHICH]]
    owner, name, original = target(moment)

    @functools.wraps(original)
    def killing(*args: Any, **kwargs: Any) -> Any:
        is_now = moment.only(*args, **kwargs)
        if is_now and not moment.after:
            _die()
        result = original(*args, **kwargs)
        if is_now and moment.after:
            _die()
        return result

    setattr(owner, name, killing)


def _die() -> None:
    done = Path(os.environ[DONE])
    try:
        done.touch(exist_ok=False)
    except FileExistsError:
        return
    now, doomed = time.monotonic(), [os.getpid(), *descendants(os.getpid())]
    record_kill("kill-point", now, doomed, until=now + 1)
    os.kill(os.getpid(), signal.SIGKILL)
