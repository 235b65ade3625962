"""The app of jobs_app.py, with tasks that do what no task should."""

from __future__ import annotations

import os
import time

from jobs_app import create_app, offload, witness

__all__ = ["create_app", "fork_and_return"]


@offload.task
def fork_and_return() -> str:
    """Forgets that a forked child must not go on into its parent's code."""
    if os.fork() == 0:
        return "child"
    time.sleep(0.5)  # time enough for the child to do harm
    witness("forked")
    return "parent"
