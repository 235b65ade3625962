"""A process for one job alone, forked from a process of the pool and gone with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Error

PR_SET_PDEATHSIG: Final = 1


def run_alone(work: Callable[[], Outcome], claim: Claim, clock: Callable[[], float]) -> Outcome:
    """Do the work in a process of its own; if that dies, the outcome is CRASHED."""
    began = clock()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_alone(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if told and code == 0:
        return msgspec.msgpack.decode(told, type=Outcome)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    error = Error("WorkerDied", f"the process of the job died ({how})")
    return Outcome(claim.seq, claim.attempt, Ending.CRASHED, began, clock(), error=error)


def _be_alone(work: Callable[[], Outcome], writing: int) -> NoReturn:
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        outcome = work()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(outcome))
        code = 0
    finally:
        os._exit(code)  # no clean-up of what belongs to the pool's process
