"""What belongs to one app: its settings, its engine, its spool, its keeper."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Sequence

from flask import Flask

from . import signals
from .config import Config
from .engines.base import Engine
from .engines.registry import make_engine
from .engines.run import Environment
from .feature_checks import check_schedule, check_settings, check_task
from .host import Declared
from .jobs import log
from .jobs.job import Job, JobRecord
from .jobs.new_job import NewJob
from .payload.spool import Spool
from .profiler.install import EvidenceSettings
from .worker.keeper import Keeper


class AppState:
    """One app's share of an Offload. clock: unix seconds; tests travel in time with it."""

    def __init__(self, app: Flask, declared: Declared, config: Config) -> None:
        self._app = weakref.ref(app)
        self.declared = declared
        self.config = config
        self.clock: Callable[[], float] = time.time
        self.database = config.database(app)
        self.engine: Engine = make_engine(self)
        check_settings(self.engine, config)
        for task in declared.tasks.values():
            check_task(self.engine, task)
        for name in declared.schedules:
            check_schedule(self.engine, name)
        self.spool = (
            Spool(
                self.database.with_name(self.database.name + "-files"),
                max_file=config.max_file,
                max_total=config.max_spool,
                durable=config.durability == "power",
            )
            if self.engine.flags.files
            else None
        )
        self.keeper = Keeper(self) if self.engine.flags.own_worker else None
        self._is_in_use = False

    @property
    def app(self) -> Flask:
        """The app, which this state never outlives."""
        app = self._app()
        if app is None:
            raise RuntimeError("the app of this Flask-Offload state no longer exists")
        return app

    @property
    def environment(self) -> Environment:
        """What the app's jobs run in."""
        return Environment(
            app=self.app,
            lookup=self.declared.find_task,
            carries=tuple(self.declared.carries),
            codecs=self.declared.codecs,
            max_payload=self.config.max_payload,
            spool=self.spool,
            clock=self.clock,
        )

    def accepted(self, records: Iterable[JobRecord], new_jobs: Sequence[NewJob]) -> list[Job]:
        """Jobs for what the engine has accepted; wakes the keeper and tells receivers."""
        self._start()
        jobs = [Job(record, self.engine, self.declared.codecs) for record in records]
        is_heard = log.is_heard(signals.enqueued, logging.DEBUG)
        for job, new_job in zip(jobs, new_jobs, strict=True):
            if job.is_duplicate:
                self.forget_files(new_job.files)
            elif is_heard:
                signals.send(signals.enqueued, self.app, job=job)
        return jobs

    def forget_files(self, names: Sequence[str]) -> None:
        """Remove spooled files of a call that did not become a job."""
        if names and self.spool is not None:
            self.spool.remove(names)

    def on_request(self) -> None:
        """Before each request: this is a web process, so somebody should run its jobs."""
        self._start()

    def _start(self) -> None:
        if self.keeper is not None:
            self.keeper.start()
        if not self._is_in_use:
            self._is_in_use = True
            for key in self.config.unheard(self.app):
                message = "%s was set after init_app, and has no effect: set it before"
                log.tell(logging.WARNING, "setting_unheard", message, key)

    def evidence_settings(self) -> EvidenceSettings:
        """The part of the settings that evidence needs."""
        config = self.config
        return EvidenceSettings(
            server_timing=config.server_timing,  # None: decided at the first request
            spot=config.spot,
            spot_above_ms=config.spot_above,
            store_path=self.database.with_name(self.database.name + "-evidence.sqlite3"),
        )
