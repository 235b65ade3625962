"""Findings that `flask offload check` has of several engines, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from ..engines.base import Finding, Level, ScheduleInfo
from ..textui import ago, duration, show_jobs


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


def schedule_findings(
    schedules: Sequence[ScheduleInfo], declared: Collection[str], now: float, late: float | None
) -> Iterator[Finding]:
    """Schedules that are no longer declared, are disabled, or should have had a job by the moment
    `late`. declared: the names of the app's own. late: None if no worker is alive."""
    found = False
    for info in schedules:
        level: Level = "note"
        if info.name not in declared:
            message = f"{info.name} is no longer declared in this app: nothing runs it"
        elif info.disabled_at is not None:
            message = (
                f"{info.name} was disabled {ago(now - info.disabled_at)}: it makes no jobs until"
                f" `flask offload enable {info.name}`"
            )
        elif late is not None and info.next_run is not None and info.next_run < late:
            level = "problem"
            message = f"{info.name} is {duration(now - info.next_run)} late: no worker has it"
        else:
            continue
        found = True
        yield Finding("schedules", level, message)
    if not found:
        yield Finding("schedules", "ok", f"{len(declared)} declared")
