"""What belongs to one app: its settings, its engine, its spool, its keeper."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Sequence

from flask import Flask

from . import signals
from .config import Config
from .engines.base import Engine, NewJob
from .engines.registry import make_engine
from .errors import UnsupportedByEngine
from .evidence.install import EvidenceSettings
from .host import Declared
from .job import Job, JobRecord
from .keeper import Keeper
from .run import Environment, Runnable
from .spool import Spool


class AppState:
    """One app's share of an Offload. clock: unix seconds; tests travel in time with it."""

    def __init__(self, app: Flask, declared: Declared, config: Config) -> None:
        self._app = weakref.ref(app)
        self.declared = declared
        self.config = config
        self.clock: Callable[[], float] = time.time
        self.database = config.database(app)
        self.engine: Engine = make_engine(self)
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
        for task in declared.tasks.values():
            self.check_supported(task)

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
        if self.keeper is not None:
            self.keeper.start()
        jobs = [Job(record, self.engine, self.declared.codecs) for record in records]
        for job, new_job in zip(jobs, new_jobs, strict=True):
            if job.is_duplicate:
                self.forget_files(new_job.files)
            elif signals.enqueued.receivers:
                signals.send(signals.enqueued, self.app, job=job)
        return jobs

    def forget_files(self, names: Sequence[str]) -> None:
        """Remove spooled files of a call that did not become a job."""
        if names and self.spool is not None:
            self.spool.remove(names)

    def on_request(self) -> None:
        """Before each request: this is a web process, so somebody should run its jobs."""
        if self.keeper is not None:
            self.keeper.start()

    def check_supported(self, task: Runnable) -> None:
        """Raise UnsupportedByEngine if the task asks for what the engine can't do."""
        options, flags, ignored = task.options, self.engine.flags, self.engine.ignores
        for flag, asked in {
            "unique": bool(options.unique),
            "limits": options.concurrency is not None or options.rate is not None,
            "isolates": options.isolate,
            "priorities": options.priority != 0,
        }.items():
            if asked and not getattr(flags, flag) and flag not in ignored:
                raise UnsupportedByEngine(
                    f"the task {task.name} needs an engine that {flag} (flag {flag!r}), and the"
                    f" {self.engine.name} engine does not: choose another OFFLOAD_ENGINE, or leave"
                    " the option out"
                )

    def evidence_settings(self) -> EvidenceSettings:
        """The part of the settings that evidence needs."""
        config = self.config
        return EvidenceSettings(
            server_timing=config.server_timing,  # None: decided at the first request
            spot=config.spot,
            spot_above_ms=config.spot_above,
            store_path=self.database.with_name(self.database.name + "-evidence.sqlite3"),
        )
