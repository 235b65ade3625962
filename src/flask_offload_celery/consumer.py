"""What a worker does with messages that Celery would log with their arguments, or end at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from flask_offload.engine_api import log_event

from .broker import ANONYMOUS, MARK
from .pool import CeleryPool

MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class OffloadConsumer(Consumer):  # type: ignore[misc]
    """Celery's, but for messages of this engine: their arguments are in no log line.

    A job whose task was declared after Celery had listed the tasks runs as ANONYMOUS: for example a
    function that a view enqueues as `offload.task(function)`.
    """

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """What is called with each message."""
        receive: Callable[[Any], Any] = super().create_task_handler(*args, **kwargs)
        pool: CeleryPool = self.app.tasks[ANONYMOUS].pool

        def receive_or_refuse(message: Any) -> Any:
            headers = message.headers
            if _is_of_engine(message) and headers.get("task") not in self.strategies:
                task = str(headers.get("task"))
                if pool.connections.host.registry.find_task(task) is None:
                    pool.maintenance.recovery.note_unknown(str(headers.get("id")), task)
                    return self._refuse(message)
                headers["task"] = ANONYMOUS
            try:
                return receive(message)
            except MALFORMED as error:  # which would end Celery's worker
                return self._log_refused(message, error)

        return receive_or_refuse

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Called for a message that is not complete."""
        if _is_of_engine(message):
            self._log_refused(message, exc)
        else:
            super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Called for a message that is not in a form that this worker accepts."""
        if _is_of_engine(message):
            self._log_refused(message, exc)
        else:
            super().on_decode_error(message, exc)

    def _log_refused(self, message: Any, error: Exception) -> None:
        text = "the message of job %s can't be read, and is dropped (%s)"
        values = ((message.headers or {}).get("id"), type(error).__name__)
        log_event(logging.ERROR, "message_unreadable", text, *values)
        self._refuse(message)

    def _refuse(self, message: Any) -> None:
        message.reject_log_error(logging.getLogger(__name__), self.connection_errors)


def _is_of_engine(message: Any) -> bool:
    return isinstance(message.headers, dict) and MARK in message.headers
