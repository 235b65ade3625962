"""What a worker has to know of the app, told by a process that has imported it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ..engines.base import ScheduleSpec
from .messages import WorkerSettings

if TYPE_CHECKING:
    from ..schedule import Schedule
    from ..state import AppState
    from ..task import Task


def worker_settings(state: AppState) -> WorkerSettings:
    """The app's settings, its tasks' timeouts, its schedules. Needs an app context."""
    config, offload = state.config, state.offload
    tasks = offload.tasks.values()
    return WorkerSettings(
        database=str(state.database),
        durable=config.durability == "power",
        busy_timeout=config.busy_timeout,
        force=config.sqlite_force,
        processes=config.worker_processes,
        threads=config.worker_threads,
        async_concurrency=config.async_concurrency,
        drain_timeout=config.drain_timeout,
        timeout_grace=config.timeout_grace,
        keep_successful=config.keep_successful,
        keep_failed=config.keep_failed,
        keep_count=config.keep_count,
        files=str(state.spool.folder) if state.spool else "",
        isolates=any(task.options.isolate for task in tasks),
        timeouts={
            task.name: task.options.timeout for task in tasks if task.options.timeout is not None
        },
        schedules=[_spec(schedule, task) for schedule, task in offload.schedules.values()],
    )


def _spec(schedule: Schedule, task: Task[[], object]) -> ScheduleSpec:
    when, jitter = schedule.when, schedule.jitter
    new_job = task.call().new_job
    new_job.origin = "schedule"
    return ScheduleSpec(
        name=schedule.name,
        cron=when if isinstance(when, str) else None,
        interval=when.total_seconds() if isinstance(when, timedelta) else None,
        tz=schedule.tz.key if isinstance(schedule.tz, ZoneInfo) else schedule.tz,
        jitter=jitter.total_seconds() if isinstance(jitter, timedelta) else jitter,
        catch_up=schedule.catch_up,
        job=new_job,
    )
