"""What this package needs of the Offload that it serves, which stands above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from flask import Flask

from ..engines.base import Engine
from ..engines.run import Runnable
from ..host import Host
from ..jobs.job import Job
from ..jobs.new_job import NewJob


class Call(Protocol):
    """A task with its arguments, on its way to `enqueue_many`."""

    @property
    def new_job(self) -> NewJob: ...


class CallableTask(Runnable, Protocol):
    """A task that makes calls."""

    def call(self, *args: Any, **kwargs: Any) -> Call: ...


class Jobs(Protocol):
    """The Offload, as the job resource and moved views see it."""

    @property
    def authorizer(self) -> Callable[[Job], bool] | None: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def tasks(self) -> Mapping[str, Runnable]: ...
    @property
    def task(self) -> Callable[..., Any]: ...
    def get_job(self, job_id: str) -> Job: ...
    def enqueue_many(self, calls: Iterable[Any]) -> list[Job]: ...
    def state_of(self, app: Flask) -> Host: ...
