"""A task of ours as Celery knows it: under its own name, run by our pipeline.

Celery keeps its own tasks as they are; only those declared on an Offload are of this kind.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from celery import Task
from celery.exceptions import Ignore, Reject
from kombu.utils.json import dumps

from flask_offload.errors import JobFailed
from flask_offload.jobs import log
from flask_offload.jobs.attempt import Ending, Outcome
from flask_offload.jobs.job import JobStatus
from flask_offload.tasks.task import Task as DeclaredTask

from .broker import ANONYMOUS, MARK
from .executor import Stopping
from .pool import Crew
from .records import KeptJob
from .redis_store import Draft

_dumps: Any = dumps  # kombu is typed in parts
ORIGIN: Final = "celery"
"""The `origin` of jobs that plain Celery code has enqueued."""


class OffloadTask(Task):  # type: ignore[misc]
    """What Celery needs to know of one task."""

    acks_late = True
    reject_on_worker_lost = True
    serializer = "json"
    typing = False  # our own check of the arguments is stricter
    throws = (JobFailed,)  # its story is in the job's record and in our log line
    Request = "flask_offload_celery.request:OffloadRequest"

    def __init__(self, declared: DeclaredTask[Any, Any], crew: Crew, grace: float) -> None:
        self.name = declared.name
        self.__doc__ = declared.function.__doc__
        self.crew = crew
        self._declared = declared
        if declared.options.timeout is not None:
            # the soft end is the job's own affair; at this one its process is killed
            self.time_limit = declared.options.timeout + grace

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Celery's own way to enqueue. Raises PayloadError for arguments that don't fit."""
        self._declared.spec.bind(tuple(args or ()), dict(kwargs or {}))
        return super().apply_async(args, kwargs, *more, **options)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Called by Celery: run the job that the message speaks of."""
        request, office = self.request, self.crew.office
        if request.called_directly or request.is_eager:
            with office.host.app.app_context():
                return self._declared.function(*args, **kwargs)
        if (request.headers or {}).get(MARK):
            _perform(self.crew, request.id, None)
            return None
        job = office.draft(self._plain_job(args, kwargs))
        outcome, status = _perform(self.crew, request.id, job)
        if status == JobStatus.CANCELLED and outcome.ending is Ending.CANCELLED:
            why = outcome.error.message if outcome.error else "cancelled"
            self.backend.mark_as_revoked(request.id, why, request=request)
        if status != JobStatus.SUCCESSFUL:
            raise Ignore  # it runs again, or has ended without a result
        return json.loads(outcome.result or "null")

    # --- steps ---

    def _plain_job(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> KeptJob:
        """What a message of plain Celery code asks for. Its arguments are already in our form:
        what JSON has is written the same way in both."""
        request, options = self.request, self._declared.options
        return KeptJob(
            id=request.id,
            task=self.name,
            queue_name=request.delivery_info.get("routing_key") or options.queue_name,
            priority=0,
            enqueued_at=self.crew.office.host.clock(),
            args=json.dumps([args, kwargs]),
            on_crash=options.on_crash,
            origin=ORIGIN,
            signature=_dumps(dict(self.signature_from_request(request, args, kwargs))),
        )


class AnonymousTask(Task):  # type: ignore[misc]
    """Runs a job whose task was declared after Celery had told its processes which tasks there are:
    a plain function, say, that a view enqueues as `offload.task(function)`."""

    name = ANONYMOUS
    acks_late = OffloadTask.acks_late
    reject_on_worker_lost = OffloadTask.reject_on_worker_lost
    Request = OffloadTask.Request

    def __init__(self, crew: Crew) -> None:
        self.crew = crew

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Called by Celery."""
        _perform(self.crew, self.request.id, None)


def _perform(crew: Crew, job_id: str, plain: Draft | None) -> tuple[Outcome, str]:
    """Run the job; Celery is told of failures, so that its monitors see them."""
    try:
        told = crew.performer.perform(job_id, plain)
    except Stopping:
        raise Reject("the worker is stopping", requeue=True) from None
    if isinstance(told, str):
        message = "the message of job %s came in vain: the job is %s"
        log.write(logging.DEBUG, "message_refused", message, job_id, told)
        raise Ignore
    outcome, status = told
    if status == JobStatus.FAILED:
        error = outcome.error
        raise JobFailed(f"{error.type}: {error.message}" if error else "no reason given")
    return outcome, status
