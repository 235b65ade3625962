"""What a worker has to know of the app, told by a process that has imported it."""

from __future__ import annotations

from ..engines.base import ScheduleSpec
from ..engines.host import Host
from ..engines.schedules import spec_of
from ..engines.sqlite.completion import Retention
from ..jobs.job import JobStatus
from ..tasks.registry import Registry
from .messages import WorkerSettings


def worker_settings(state: Host) -> WorkerSettings:
    """The app's settings, its tasks' timeouts, its schedules. Needs an app context."""
    config, registry = state.config, state.registry
    tasks = registry.tasks.values()
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
        own_keeps=own_keeps(registry),
        files=str(state.spool.folder) if state.spool else "",
        isolates=any(task.options.isolate for task in tasks),
        timeouts={
            task.name: task.options.timeout for task in tasks if task.options.timeout is not None
        },
        schedules=schedule_specs(state),
        own_worker=state.engine.flags.own_worker,
    )


def retention(settings: WorkerSettings) -> Retention:
    """How long a worker keeps finished jobs."""
    return Retention(
        settings.keep_successful, settings.keep_failed, settings.keep_count, settings.own_keeps
    )


def own_keeps(registry: Registry) -> dict[str, dict[JobStatus, float]]:
    """How long jobs are kept whose task says so itself, by its name."""
    return {
        name: dict(task.options.keep)
        for name, task in registry.tasks.items()
        if task.options.keep is not None
    }


def schedule_specs(state: Host) -> list[ScheduleSpec]:
    """The app's schedules, each with the job that its times make. Needs an app context."""
    return [spec_of(schedule, job) for schedule, job in state.registry.scheduled()]
