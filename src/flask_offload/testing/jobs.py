"""The jobs of one app, as the fixture `offload_jobs` provides them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from flask import Flask

from ..config import Config
from ..engines.base import JobQuery
from ..jobs.job import Job, JobRecord
from ..state import state_of
from .clock import Clock
from .drain import LIMIT, drain, travel

if TYPE_CHECKING:
    from datetime import datetime, timedelta

PAGE = 1000


class AppJobs:
    """The current jobs of an app, oldest first: iterate, count, drain, travel."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def __iter__(self) -> Iterator[Job]:
        state = state_of(self.app)
        pages: list[list[JobRecord]] = []
        while page := state.engine.list(JobQuery(limit=PAGE, offset=PAGE * len(pages))):
            pages.append(page)
        for page in reversed(pages):
            for record in reversed(page):
                yield state.job(record)

    def __len__(self) -> int:
        return sum(state_of(self.app).engine.count().values())

    def __repr__(self) -> str:
        return f"<AppJobs {list(self)}>"

    def drain(
        self,
        *,
        queue: str | None = None,
        until: timedelta | datetime | None = None,
        limit: int = LIMIT,
    ) -> list[Job]:
        """`flask_offload.testing.drain` for this app."""
        return drain(self.app, queue=queue, until=until, limit=limit)

    def travel(self, to: timedelta | datetime) -> AbstractContextManager[Clock]:
        """`flask_offload.testing.travel` for this app."""
        return travel(self.app, to)

    def clear(self) -> None:
        """Delete all jobs and schedules.

        Raises RuntimeError unless the app is in testing mode and has its own database: jobs of a
        development or production database must not be deleted.
        """
        state = state_of(self.app)
        if not self.app.testing:
            raise RuntimeError("app.testing is not set: this may be an app in real use")
        where, is_own = (
            str(state.database),
            state.config.sqlite_path is not None or state.has_test_database,
        )
        remedy = "OFFLOAD_SQLITE_PATH to a temporary file"
        if state.engine.name == "postgres":
            where = f"the schema {state.config.postgres_schema!r}"
            is_own = state.config.postgres_schema != Config.postgres_schema
            remedy = "OFFLOAD_POSTGRES_SCHEMA to one of the tests"
        if state.engine.flags.durable and not is_own:
            raise RuntimeError(
                f"the tests would delete the jobs in {where}, which the app uses outside of tests"
                f" too: set {remedy}"
            )
        state.engine.clear()
        if state.spool is not None:
            state.spool.sweep((), older_than=-1.0)

    def close(self) -> None:
        """Close the engine's connections; the next use opens them again."""
        state_of(self.app).engine.close()
