"""The engine of the sample app, as the environment chooses it, seen from the lab's process."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from flask import Flask

from flask_offload import EngineUnavailable, Offload
from flask_offload.engine_api import JobQuery

from .sample_app.settings import QUEUES

MAX_CLEARED = 1000
"""A store with more jobs than this is not cleared when the lab ends."""


class SampleAppEngine:
    """Its name, its flags, and whether it can be reached.

    folder: where the embedded engine keeps its file. Raises ConfigError.
    """

    def __init__(self, folder: Path) -> None:
        prefix = f"offload-lab-{secrets.token_hex(4)}:"
        self.environ = {"FLASK_OFFLOAD_CELERY_PREFIX": prefix}
        """For the sample app's processes: a prefix of its own on a Redis server that is shared."""
        app = Flask(__name__)
        app.config.from_prefixed_env()
        app.config.update(
            OFFLOAD_CELERY_PREFIX=prefix,
            OFFLOAD_SQLITE_PATH=str(folder / "offload.sqlite3"),
            OFFLOAD_SERVER_TIMING=False,
            OFFLOAD_SPOT=False,
        )
        offload = Offload(app)
        with app.app_context():
            self._engine = offload.engine
        self._app = app  # an Offload refers to its apps weakly
        self.name = self._engine.name
        self.flags = self._engine.flags

    @property
    def needs_worker(self) -> bool:
        """Whether the lab has to start a worker: no web process keeps one."""
        return self.flags.worker_command and not self.flags.own_worker

    @property
    def has_worker(self) -> bool:
        """Whether jobs run elsewhere than in the request."""
        return self.flags.own_worker or self.flags.worker_command

    @property
    def _is_remote(self) -> bool:
        """Whether a server keeps the jobs, outside of the lab's folder."""
        return self.flags.durable and self.flags.lists and self.name != "sqlite"

    def check(self) -> None:
        """Raise EngineUnavailable or ConfigError if the sample app could not enqueue a job."""
        if self._is_remote:
            try:
                self._engine.count()
            finally:
                self._engine.close()

    def clear(self) -> None:
        """Delete the sample app's jobs, unless the store holds jobs of another app as well."""
        if self._is_remote:
            with suppress(EngineUnavailable):
                found = self._engine.list(JobQuery(limit=MAX_CLEARED))
                if len(found) < MAX_CLEARED and {job.queue_name for job in found} <= set(QUEUES):
                    self._engine.clear()
            self._engine.close()
