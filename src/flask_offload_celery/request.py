"""A message in the main process of a worker: what happens when the process that runs it dies."""

from __future__ import annotations

import logging
from typing import Any

from celery.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import ExceptionWithTraceback, Request
from celery.worker.state import task_ready

from flask_offload.engine_api import log_event

from .recovery import TIMEOUT

LOST = (WorkerLostError, Terminated, TimeLimitExceeded, SystemExit, KeyboardInterrupt)


class OffloadRequest(Request):  # type: ignore[misc]
    """When its process dies, the message is acknowledged and the job's record decides what follows:
    the job is put back, retried, or fails after too many crashes. If it runs again, there is a new
    message."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The task has ignored its timeout: its process is about to be killed."""
        if not soft:
            message = "job %s ran longer than %g s and ignored its timeout: its process is killed"
            log_event(logging.WARNING, "job_killed", message, self.id, timeout, job_id=self.id)
            self._lose(TIMEOUT)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """The task raised something, or its process died."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, LOST):
            is_timeout = isinstance(error, TimeLimitExceeded)
            return self._lose(TIMEOUT if is_timeout else str(error) or type(error).__name__)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _lose(self, reason: str) -> None:
        task_ready(self)
        if not self.acknowledged:
            self.task.pool.maintenance.recovery.note_lost(self, reason)
            self.acknowledge()
