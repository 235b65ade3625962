"""The app of jobs_app.py, with tasks that do what no task should."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from jobs_app import create_app, offload, witness

__all__ = ["break_the_log", "create_app", "fork_and_return", "stop_the_loop"]


@offload.task
def fork_and_return() -> str:
    """Forgets that a forked child must not go on into its parent's code."""
    if os.fork() == 0:
        return "child"
    time.sleep(0.5)  # time enough for the child to do harm
    witness("forked")
    return "parent"


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log is broken")


@offload.task
def break_the_log() -> None:
    """As when sys.stderr was closed."""
    logging.getLogger("flask_offload").addHandler(BrokenHandler())


@offload.task
async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(60)
