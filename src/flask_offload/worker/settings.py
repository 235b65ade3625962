"""What a worker has to know of the app, from a process that has imported it."""

from __future__ import annotations

import logging

from ..engines.host import Host
from ..engines.schedules import ScheduleSpec, spec_of
from ..errors import ConfigError
from ..jobs import log
from ..jobs.alert import ALERT
from ..jobs.job import JobStatus
from ..tasks.alerts import find_alert
from ..tasks.registry import Registry
from ..tasks.task import Task
from .messages import WorkerSettings


def worker_settings(host: Host) -> WorkerSettings:
    """The app's settings, its tasks' timeouts, its schedules. Needs an app context."""
    config, registry = host.config, host.registry
    tasks = registry.tasks.values()
    return WorkerSettings(
        values=config.portable(),
        opener=host.engine.opener,
        database=str(host.database),
        own_keeps=own_keeps(registry),
        files=str(host.spool.folder) if host.spool else "",
        isolates=any(task.options.isolate for task in tasks),
        timeouts={
            task.name: task.options.timeout for task in tasks if task.options.timeout is not None
        },
        schedules=schedule_specs(host),
        own_worker=host.engine.flags.own_worker,
        on_failure=with_on_failure(registry),
        silent=silent_tasks(host),
    )


def own_keeps(registry: Registry) -> dict[str, dict[JobStatus, float]]:
    """The `keep=` of the tasks that have one, by their names."""
    return {
        name: dict(task.options.keep)
        for name, task in registry.tasks.items()
        if task.options.keep is not None
    }


def with_on_failure(registry: Registry) -> list[str]:
    """The names of the tasks that have an `on_failure=`."""
    return [task.name for task in registry.tasks.values() if task.options.on_failure]


def silent_tasks(host: Host) -> list[str] | None:
    """The names of the tasks about which OFFLOAD_ALERT is not called: its own; None if it is not
    set. One that can't be used is logged: its jobs will fail."""
    value = host.config.alert
    if value is None:
        return None
    try:
        called = find_alert(host.registry.tasks, value)
    except ConfigError as error:
        log.write(logging.ERROR, "alert_unusable", "%s", error)
        return [ALERT]
    return [ALERT, called.name] if isinstance(called, Task) else [ALERT]


def schedule_specs(host: Host) -> list[ScheduleSpec]:
    """The app's schedules, each with the job that its times make. Needs an app context."""
    return [spec_of(schedule, job) for schedule, job in host.registry.scheduled()]
