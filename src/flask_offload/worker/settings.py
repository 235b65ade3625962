"""What a worker has to know of the app, from a process that has imported it."""

from __future__ import annotations

import logging

from ..engines.host import Host
from ..engines.schedules import ScheduleSpec, spec_of
from ..engines.store import Retention
from ..errors import ConfigError
from ..jobs import log
from ..jobs.alert import ALERT
from ..tasks.alerts import find_alert
from ..tasks.task import Task
from .messages import WorkerSettings


def worker_settings(host: Host) -> WorkerSettings:
    """The app's settings, its tasks' timeouts, its schedules. Needs an app context."""
    tasks = host.registry.tasks.values()
    return WorkerSettings(
        values=host.config.portable(),
        opener=host.engine.opener,
        database=str(host.database),
        retention=retention_of(host),
        files=str(host.spool.folder) if host.spool else "",
        isolates=any(task.options.isolate for task in tasks),
        timeouts={
            task.name: task.options.timeout for task in tasks if task.options.timeout is not None
        },
        schedules=schedule_specs(host),
        own_worker=host.engine.flags.own_worker,
    )


def retention_of(host: Host) -> Retention:
    """What a store has to know of the app and its tasks about jobs that end."""
    config, tasks = host.config, host.registry.tasks.values()
    return Retention(
        *(config.keep_successful, config.keep_failed, config.keep_count),
        own={task.name: task.options.keep for task in tasks if task.options.keep is not None},
        on_failure=frozenset(task.name for task in tasks if task.options.on_failure),
        silent=_silent_tasks(host),
    )


def _silent_tasks(host: Host) -> frozenset[str] | None:
    """The names of the tasks about which OFFLOAD_ALERT is not called: its own; None if it is not
    set. One that can't be used is logged: its jobs will fail."""
    value = host.config.alert
    if value is None:
        return None
    try:
        called = find_alert(host.registry.tasks, value)
    except ConfigError as error:
        log.write(logging.ERROR, "alert_unusable", "%s", error)
        return frozenset({ALERT})
    return frozenset({ALERT, called.name} if isinstance(called, Task) else {ALERT})


def schedule_specs(host: Host) -> list[ScheduleSpec]:
    """The app's schedules, each with the job that its times make. Needs an app context."""
    return [spec_of(schedule, job) for schedule, job in host.registry.scheduled()]
