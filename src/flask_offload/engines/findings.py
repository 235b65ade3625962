"""Findings that `flask offload check` has of several engines, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..textui import show_jobs
from .base import Finding


def unknown_tasks(
    waiting: Mapping[str, int], find_task: Callable[[str], object | None]
) -> Iterator[Finding]:
    """Waiting jobs whose task this app does not have. waiting: how many of each task."""
    unknown = sorted(task for task in waiting if find_task(task) is None)
    for task in unknown:
        message = (
            f"{show_jobs(waiting[task])} of {task} waiting, and this app has no such task: import"
            " the module that declares it, or cancel them"
        )
        yield Finding("tasks", "problem", message)
    if not unknown:
        yield Finding("tasks", "ok", "every waiting job has a task in this app")
