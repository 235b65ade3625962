"""What a process needs that was forked after the app was made: its own connections and programs."""

from __future__ import annotations

import contextlib
import os
import signal

from flask import Flask

from flask_offload import signals


def prepare_process(app: Flask) -> None:
    """In a process that has just been forked to run jobs.

    Connections that SQLAlchemy had pooled before belong to the parent: two processes on one of them
    would read each other's rows. Receivers of `worker_process_started` do the same for others. The
    process leads a group, so that the programs of its jobs can be ended with it.
    """
    with contextlib.suppress(OSError):  # it may lead a session already
        os.setpgid(0, 0)
    extension = app.extensions.get("sqlalchemy")
    with app.app_context():
        for engine in getattr(extension, "engines", {}).values():
            engine.dispose(close=False)
    signals.send(signals.worker_process_started, app)


def kill_process(pid: int) -> None:
    """Kill a process of the pool, and the programs that its jobs have started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    kill_programs(pid)


def kill_programs(pid: int) -> None:
    """Kill what is left of the group of a process that has ended."""
    if pid != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
