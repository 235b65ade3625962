"""The engine on which the club's jobs run, as the environment chooses it, seen from the lab."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

from flask import Flask

from flask_offload import EngineUnavailable, Offload
from flask_offload.engines.base import JobQuery

from .sample_app.offload import QUEUES

MOST = 1000
"""Jobs that the lab looks at before it leaves."""


class ClubEngine:
    """What the lab asks of it: its name, its flags, and whether it can be reached.

    folder: where the embedded engine keeps its file. Raises ConfigError.
    """

    def __init__(self, folder: Path) -> None:
        prefix = f"offload-lab-{secrets.token_hex(4)}:"
        self.environ = {"FLASK_OFFLOAD_CELERY_PREFIX": prefix}
        """For the club's processes: its records are its own, whoever else uses that server."""
        self._app = Flask(__name__)
        self._app.config.from_prefixed_env()
        self._app.config.update(
            OFFLOAD_CELERY_PREFIX=prefix,
            OFFLOAD_SQLITE_PATH=str(folder / "offload.sqlite3"),
            OFFLOAD_SERVER_TIMING=False,
            OFFLOAD_SPOT=False,
        )
        self._engine = Offload(self._app).state_of(self._app).engine
        self.name = self._engine.name
        self.flags = self._engine.flags

    @property
    def needs_worker(self) -> bool:
        """Whether a worker has to be started: no web process keeps one."""
        return self.flags.worker_command and not self.flags.own_worker

    @property
    def has_worker(self) -> bool:
        """Whether jobs run elsewhere than in the request."""
        return self.flags.own_worker or self.flags.worker_command

    @property
    def _is_elsewhere(self) -> bool:
        """Whether its jobs are kept outside of the lab's folder, by a server that may be away."""
        return self.flags.durable and self.flags.lists and not self.flags.own_worker

    def check(self) -> None:
        """Raise EngineUnavailable or ConfigError if the club could not enqueue a job."""
        if self._is_elsewhere:
            try:
                self._engine.count()
            finally:
                self._engine.close()

    def tidy(self) -> None:
        """Forget the club's jobs, unless the store holds those of somebody else as well."""
        if self._is_elsewhere:
            with suppress(EngineUnavailable):
                found = self._engine.list(JobQuery(limit=MOST))
                if len(found) < MOST and {job.queue_name for job in found} <= set(QUEUES):
                    self._engine.clear()
            self._engine.close()
