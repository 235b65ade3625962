"""The app's tasks as Celery tasks of the same names. Other Celery tasks are left as they are."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from celery import Task
from celery.exceptions import Ignore, Reject
from kombu.utils.json import dumps

from flask_offload import Task as DeclaredTask
from flask_offload.engine_api import Ending, JobStatus, Outcome, encode_json_call, log_event
from flask_offload.errors import JobFailed

from .broker import ANONYMOUS, MARK
from .executor import Stopping
from .pool import CeleryPool
from .records import KeptJob
from .redis_store import Draft

_dumps: Any = dumps  # kombu is typed in parts
ORIGIN: Final = "celery"
"""The `origin` of jobs that plain Celery code has enqueued."""


class OffloadTask(Task):  # type: ignore[misc]
    """One task; a message of it claims and runs its job."""

    acks_late = True
    reject_on_worker_lost = True
    serializer = "json"
    typing = False  # apply_async checks the arguments
    throws = (JobFailed,)  # its traceback is in the job's record and in the log
    Request = "flask_offload_celery.request:OffloadRequest"

    def __init__(self, declared: DeclaredTask[Any, Any], pool: CeleryPool, grace: float) -> None:
        self.name = declared.name
        self.__doc__ = declared.function.__doc__
        self.pool = pool
        self._declared = declared
        if declared.options.timeout is not None:
            # the job checks its timeout itself; at this limit its process is killed
            self.time_limit = declared.options.timeout + grace

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Celery's own way to enqueue. Raises PayloadError for arguments that don't fit."""
        self._declared.spec.bind(tuple(args or ()), dict(kwargs or {}))
        return super().apply_async(args, kwargs, *more, **options)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Called by Celery: run the job of the message."""
        request, connections = self.request, self.pool.connections
        if request.called_directly or request.is_eager:
            with connections.host.app.app_context():
                return self._declared.function(*args, **kwargs)
        if (request.headers or {}).get(MARK):
            _execute(self.pool, request.id, None)
            return None
        job = connections.draft(self._plain_job(args, kwargs))
        outcome, status = _execute(self.pool, request.id, job)
        if status == JobStatus.CANCELLED and outcome.ending is Ending.CANCELLED:
            why = outcome.error.message if outcome.error else "cancelled"
            self.backend.mark_as_revoked(request.id, why, request=request)
        if status != JobStatus.SUCCESSFUL:
            raise Ignore  # it runs again, or has ended without a result
        return json.loads(outcome.result or "null")

    # --- steps ---

    def _plain_job(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeptJob:
        """The job that a message of plain Celery code makes. Its arguments are plain
        data, whatever they look like."""
        request, options = self.request, self._declared.options
        return KeptJob(
            id=request.id,
            task=self.name,
            queue_name=request.delivery_info.get("routing_key") or options.queue_name,
            priority=0,
            enqueued_at=self.pool.connections.host.clock(),
            args=encode_json_call(args, kwargs),
            on_crash=options.on_crash,
            origin=ORIGIN,
            signature=_dumps(dict(self.signature_from_request(request, args, kwargs))),
        )


class AnonymousTask(Task):  # type: ignore[misc]
    """Runs a job whose task was declared after Celery had listed the tasks: for example a function
    that a view enqueues as `offload.task(function)`."""

    name = ANONYMOUS
    acks_late = OffloadTask.acks_late
    reject_on_worker_lost = OffloadTask.reject_on_worker_lost
    Request = OffloadTask.Request

    def __init__(self, pool: CeleryPool) -> None:
        self.pool = pool

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Called by Celery."""
        _execute(self.pool, self.request.id, None)


def _execute(pool: CeleryPool, job_id: str, plain: Draft | None) -> tuple[Outcome, str]:
    """Run the job; raises JobFailed if it failed, for Celery's monitors."""
    try:
        found = pool.executor.execute(job_id, plain)
    except Stopping:
        raise Reject("the worker is stopping", requeue=True) from None
    if isinstance(found, str):
        message = "a message of job %s was refused: the job is %s"
        log_event(logging.DEBUG, "message_refused", message, job_id, found)
        raise Ignore
    outcome, status = found
    if status == JobStatus.FAILED:
        error = outcome.error
        raise JobFailed(f"{error.type}: {error.message}" if error else "no reason given")
    return outcome, status
