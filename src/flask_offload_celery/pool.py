"""The process pool of a Celery worker."""

from __future__ import annotations

import os
import threading

from .connections import Connections
from .executor import JobExecutor
from .maintenance import MaintenanceThread
from .worker_identity import WorkerIdentity


class CeleryPool:
    """What its processes share: the identity, and in the main process the maintenance. Each process
    has an executor. Created in the main process before Celery forks its pool."""

    def __init__(self, connections: Connections, identity: WorkerIdentity) -> None:
        self.connections = connections
        self.identity = identity
        self.maintenance = MaintenanceThread(connections, identity)
        self._executor: JobExecutor | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._reset_after_fork)

    @property
    def executor(self) -> JobExecutor:
        """The executor of this process."""
        with self._lock:
            if self._executor is None:
                self._executor = JobExecutor(self.connections, self.identity)
            return self._executor

    def _reset_after_fork(self) -> None:
        self._executor = None
        self._lock = threading.Lock()
