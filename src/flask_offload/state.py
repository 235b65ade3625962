"""The state of one app: its settings, engine, spool and keeper; and the apps of an Offload."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from flask import Flask, current_app

from . import signals
from .config import Config
from .engines.base import Engine
from .engines.host import Host
from .engines.registry import make_engine
from .errors import JobNotFound, NotInitialized, OptionError, PayloadError
from .feature_checks import check_schedule, check_settings, check_task, check_using, require_flag
from .jobs import log
from .jobs.job import Job, JobRecord
from .jobs.new_job import NewJob
from .payload.spool import Spool
from .profiler.install import ProfilerSettings
from .profiler.timing import note_enqueue
from .tasks.registry import Registry
from .tasks.schedule import Schedule
from .tasks.task import Task, TaskCall
from .worker.keeper import Keeper


class AppState(Host):
    """The state of an Offload for one app."""

    def __init__(self, app: Flask, registry: Registry, config: Config) -> None:
        super().__init__(app, registry, config)
        self.engine = make_engine(self)
        check_settings(self.engine, config)
        for task in registry.tasks.values():
            check_task(self.engine, task)
        for name in registry.schedules:
            check_schedule(self.engine, name)
        if self.engine.flags.files:
            self.spool = Spool(
                self.database.with_name(self.database.name + "-files"),
                max_file=config.max_file,
                max_total=config.max_spool,
                durable=config.durability == "power",
            )
        self.keeper = Keeper(self) if self.engine.flags.own_worker else None
        if self.keeper is not None:
            self.keeper.start_with_server()
        self._is_in_use = False

    def new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob:
        """The job of one call, not enqueued. Raises PayloadError and UnsupportedByEngine."""
        check_using(self.engine, task)
        limit = self.config.max_payload
        return task.new_job(args, kwargs, limit=limit, spool=self.spool, now=self.clock())

    def enqueue(self, new_jobs: Sequence[NewJob]) -> list[Job]:
        """Enqueue all of them, or none. Raises EngineUnavailable, and RuntimeError in a test that
        has no database of its own."""
        self.check_test_database()
        try:
            records = self.engine.enqueue(new_jobs) if new_jobs else []
        except BaseException:
            for job in new_jobs:
                self._discard_files(job)
            raise
        return self._accepted(records, new_jobs)

    def _accepted(self, records: Iterable[JobRecord], new_jobs: Sequence[NewJob]) -> list[Job]:
        """Jobs of the enqueued records; starts the keeper and sends the signals."""
        self._start()
        jobs = [self.job(record) for record in records]
        has_receivers = log.has_receivers(signals.enqueued, logging.DEBUG)
        for job, new_job in zip(jobs, new_jobs, strict=True):
            if job.is_duplicate:
                self._discard_files(new_job)
            elif has_receivers:
                signals.send(signals.enqueued, self.app, job=job)
        return jobs

    def job(self, record: JobRecord) -> Job:
        """The job of this record."""
        return Job(record, self.engine, self.registry.codecs)

    def _discard_files(self, job: NewJob) -> None:
        """Remove the spooled files of a call that did not become a job."""
        if job.files and self.spool is not None:
            self.spool.remove(job.files)

    def on_request(self) -> None:
        """Before each request: a web process starts its keeper."""
        self._start()

    def _start(self) -> None:
        if self.keeper is not None:
            self.keeper.start()
        if not self._is_in_use:
            self._is_in_use = True
            for key in self.config.changed_keys(self.app):
                message = "%s was set after init_app, and has no effect: set it before"
                log.write(logging.WARNING, "setting_ignored", message, key)

    def profiler_settings(self) -> ProfilerSettings:
        """The part of the settings that the profiler needs."""
        config = self.config
        return ProfilerSettings(
            server_timing=config.server_timing,  # None: decided at the first request
            spot=config.spot,
            spot_above_ms=config.spot_above,
            store_path=self.database.with_name(self.database.name + "-evidence.sqlite3"),
        )


class AppRegistry(Registry):
    """A registry with its apps; it enqueues in the current one."""

    def __init__(self) -> None:
        super().__init__()
        self.states: WeakKeyDictionary[Flask, AppState] = WeakKeyDictionary()

    def state_of(self, app: Flask) -> AppState:
        """The state of this app. Raises NotInitialized."""
        state = self.states.get(app)
        if state is None:
            raise NotInitialized(
                f"the app {app.name!r} has no Flask-Offload: call offload.init_app(app) where the"
                " app is created"
            )
        return state

    def current_state(self) -> AppState:
        """The state of the current app. Raises NotInitialized."""
        if not current_app:
            raise NotInitialized(
                "there is no application context: enqueue while a request is handled, in a command"
                " of the app, or inside of `with app.app_context():`"
            )
        return self.state_of(current_app._get_current_object())  # type: ignore[attr-defined]

    @property
    def engine(self) -> Engine:
        """The current app's engine."""
        return self.current_state().engine

    def enqueue_call(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        """Enqueue one call in the current app."""
        began = time.perf_counter()
        state = self.current_state()
        (job,) = state.enqueue((state.new_job(task, args, kwargs),))
        note_enqueue(time.perf_counter() - began)
        return job

    def new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob:
        """The job of one call in the current app, not enqueued yet."""
        return self.current_state().new_job(task, args, kwargs)

    def check_task(self, task: Task[Any, Any]) -> None:
        """Raise UnsupportedByEngine if an app's engine does not support one of the task's
        options."""
        for state in self.states.values():
            check_task(state.engine, task)

    def check_schedule(self, schedule: Schedule) -> None:
        """The same for a schedule."""
        for state in self.states.values():
            check_schedule(state.engine, schedule.name)

    def enqueue(self, *_: object, **__: object) -> NoReturn:
        """RQ's method. Raises OptionError."""
        raise OptionError(
            "an Offload has no enqueue: decorate the function with @offload.task, and write"
            " function.enqueue(…); or offload.task(function).enqueue(…) for one of another package."
        )

    def enqueue_many(self, calls: Iterable[TaskCall]) -> list[Job]:
        """Enqueue calls made with `task.call(…)` in one transaction.

        Raises PayloadError for anything else than a call, EngineUnavailable, and
        UnsupportedByEngine where the engine has no such transactions.
        """
        began = time.perf_counter()
        state = self.current_state()
        new_jobs = [_new_job(call) for call in calls]
        if len(new_jobs) > 1:
            require_flag(
                state.engine, "transactional_batches", "enqueue_many() of more than one call"
            )
        jobs = state.enqueue(new_jobs)
        note_enqueue(time.perf_counter() - began)
        return jobs

    def get_job(self, job_id: str) -> Job:
        """The job with this id. Raises JobNotFound."""
        state = self.current_state()
        if not isinstance(job_id, str):  # such as None, from a request that names none
            raise JobNotFound(f"there is no job {job_id!r}: an id is a text, see job.id")
        return state.job(state.engine.get(job_id))


def state_of(app: Flask) -> AppState:
    """The state of this app, whichever Offload it has. Raises NotInitialized."""
    registry: AppRegistry | None = app.extensions.get("offload")
    if registry is None:
        raise NotInitialized
    return registry.state_of(app)


def _new_job(call: object) -> NewJob:
    if not isinstance(call, TaskCall):
        raise PayloadError(
            f"enqueue_many takes calls, not {type(call).__name__}: write"
            " offload.enqueue_many([task.call(…), …])"
        )
    return call.new_job
