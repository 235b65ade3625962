"""An app as its engine and its workers see it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

from ..config import Config
from ..errors import UnknownTask
from ..jobs.attempt import Claim, Report
from ..jobs.context import JobContext
from ..jobs.job import JobStatus
from ..jobs.options import options_of
from ..jobs.steps import Steps
from ..payload.spool import Spool
from ..tasks.registry import Registry
from ..tasks.task import Task
from .base import Engine


class Host:
    """Settings, database, clock, and what is declared. clock: unix seconds; tests replace it."""

    def __init__(self, app: Flask, registry: Registry, config: Config) -> None:
        self._app = weakref.ref(app)
        self.registry = registry
        self.config = config
        self.has_test_database: bool = config.sqlite_path is None and _is_test(app)
        """Whether the jobs are in a temporary database, as those of a test."""
        self.database: Path = (
            _temporary_database(app) if self.has_test_database else config.database(app)
        )
        self.clock: Callable[[], float] = _now
        self.spool: Spool | None = None
        self.engine: Engine

    @property
    def app(self) -> Flask:
        """The app, which this object never outlives."""
        app = self._app()
        if app is None:
            raise RuntimeError("the app of this Flask-Offload state no longer exists")
        return app

    def check_test_database(self) -> None:
        """Raise RuntimeError if a test would use the jobs of development or production."""
        is_real = self.config.sqlite_path is None and not self.has_test_database
        if is_real and self.app.testing and self.engine.name == "sqlite":
            raise RuntimeError(
                f"app.testing was set after init_app, so the test would use the jobs in"
                f" {self.database}, where the app keeps them outside of tests too: set TESTING"
                " before init_app, or OFFLOAD_SQLITE_PATH to a temporary file"
            )

    def task(self, name: str) -> Task[Any, Any]:
        """The task of that name, by exact name only. Raises UnknownTask."""
        task = self.registry.find_task(name)
        if task is None:
            raise UnknownTask(
                f"no task {name!r} is registered here: import the module that declares it where"
                " the app is made"
            )
        return task

    def context(self, claim: Claim, emit: Callable[[Report], None]) -> JobContext:
        """The context in which `claim` will run. Raises UnknownTask."""
        own = options_of(claim.options).timeout
        declared = self.task(claim.task).options.timeout
        keep_log = self.config.keep_log if self.engine.flags.logs else 0
        return JobContext(claim, emit, declared if own is None else own, self._steps, keep_log)

    def _steps(self, claim: Claim) -> Steps:
        return Steps(self.engine, self.registry.codecs, claim)

    def has_on_failure(self, task: str) -> bool:
        """Whether a task has an `on_failure=`."""
        declared = self.registry.tasks.get(task)
        return declared is not None and declared.options.on_failure is not None

    def keep_unsuccessful(self, task: str, status: JobStatus) -> float:
        """Seconds for which a job of this task is kept that has FAILED or was CANCELLED."""
        declared = self.registry.tasks.get(task)
        own = None if declared is None else declared.options.keep_for(status)
        return self.config.keep_failed if own is None else own


def _is_test(app: Flask) -> bool:
    return app.testing or "_pytest" in sys.modules


def _temporary_database(app: Flask) -> Path:
    """A database file in a folder of its own, which is removed with the app."""
    folder = Path(tempfile.mkdtemp(prefix="flask-offload-"))
    weakref.finalize(app, _remove, folder, os.getpid())
    return folder / "offload.sqlite3"


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not remove it
        shutil.rmtree(folder, ignore_errors=True)


def _now() -> float:
    """Looked up at each call: a library may freeze `time.time` after the app was made."""
    return time.time()
