"""What engines, workers and the keeper see of an app and of what it declares.

Protocols, so that those who serve an app need not know the classes that stand above them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from flask import Flask

from .config import Config
from .engines.base import Engine
from .engines.run import Environment, Runnable
from .jobs.job import JobStatus
from .jobs.new_job import NewJob
from .payload.calls import Codecs
from .payload.propagation import Carry
from .payload.spool import Spool
from .tasks.schedule import Schedule


class Declared(Protocol):
    """What is declared on an Offload."""

    @property
    def tasks(self) -> Mapping[str, Runnable]: ...
    @property
    def schedules(self) -> Mapping[str, object]: ...
    @property
    def carries(self) -> Sequence[Carry]: ...
    @property
    def codecs(self) -> Codecs: ...
    def find_task(self, name: str, /) -> Runnable | None: ...
    def scheduled(self) -> list[tuple[Schedule, NewJob]]: ...


class Host(Protocol):
    """An app's share of an Offload; `AppState` is the one there is."""

    @property
    def app(self) -> Flask: ...
    @property
    def config(self) -> Config: ...
    @property
    def database(self) -> Path: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def spool(self) -> Spool | None: ...
    @property
    def environment(self) -> Environment: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def declared(self) -> Declared: ...


def keep_unsuccessful(host: Host, task: str, status: JobStatus) -> float:
    """Seconds for which a job of this task is kept that has FAILED or was CANCELLED."""
    declared = host.declared.tasks.get(task)
    own = None if declared is None else declared.options.keep_for(status)
    return host.config.keep_failed if own is None else own


def keep_cancelled(host: Host, task: str) -> float:
    """Seconds for which a job of this task is kept once it is cancelled."""
    return keep_unsuccessful(host, task, JobStatus.CANCELLED)
