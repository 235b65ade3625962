"""Runs one job in a process of its own, which ends with the pool's process that forked it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec
from flask import Flask

from flask_offload.engine_api import Claim, Ending, Error, Outcome

from .forked import kill_programs, prepare_process

PR_SET_PDEATHSIG: Final = 1
FLUSH: Final = 2.0
"""Seconds."""


def run_isolated(
    work: Callable[[], Outcome], claim: Claim, clock: Callable[[], float], app: Flask
) -> Outcome:
    """Do the work in a process of its own; if that dies, the outcome is CRASHED."""
    began = clock()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run_child(work, writing, app)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    kill_programs(pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if answer and code == 0:
        return msgspec.msgpack.decode(answer, type=Outcome)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    error = Error("WorkerDied", f"the process of the job died ({how})")
    return Outcome(claim.seq, claim.attempt, Ending.CRASHED, began, clock(), error=error)


def _run_child(work: Callable[[], Outcome], writing: int, app: Flask) -> NoReturn:
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prepare_process(app)
        outcome = work()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(outcome))
        code = 0
        _flush_monitors()
    finally:
        os._exit(code)  # without the exit handlers of the pool's process


def _flush_monitors() -> None:
    """Let sentry_sdk and OpenTelemetry send what they have: their threads end with this process."""
    sentry, trace = sys.modules.get("sentry_sdk"), sys.modules.get("opentelemetry.trace")
    with contextlib.suppress(Exception):
        if sentry is not None:
            sentry.flush(FLUSH)
    with contextlib.suppress(Exception):
        if trace is not None:
            trace.get_tracer_provider().force_flush(int(FLUSH * 1000))
