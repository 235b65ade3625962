"""What a worker has to know of the app, told by a process that has imported it."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from ..engines.base import NewJob, ScheduleSpec
from ..host import Host
from ..schedule import Schedule
from .messages import WorkerSettings


def worker_settings(state: Host) -> WorkerSettings:
    """The app's settings, its tasks' timeouts, its schedules. Needs an app context."""
    config, declared = state.config, state.declared
    tasks = declared.tasks.values()
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
        schedules=schedule_specs(state),
        own_worker=state.engine.flags.own_worker,
    )


def schedule_specs(state: Host) -> list[ScheduleSpec]:
    """The app's schedules, each with the job that its times make. Needs an app context."""
    return [_spec(schedule, job) for schedule, job in state.declared.scheduled()]


def _spec(schedule: Schedule, job: NewJob) -> ScheduleSpec:
    when, jitter = schedule.when, schedule.jitter
    return ScheduleSpec(
        name=schedule.name,
        cron=when if isinstance(when, str) else None,
        interval=when.total_seconds() if isinstance(when, timedelta) else None,
        tz=schedule.tz.key if isinstance(schedule.tz, ZoneInfo) else schedule.tz,
        jitter=jitter.total_seconds() if isinstance(jitter, timedelta) else jitter,
        catch_up=schedule.catch_up,
        job=job,
    )
