"""Spans of OpenTelemetry, by its conventions for messaging: one where a job is enqueued, one where
it runs. Unless the process has imported opentelemetry, there are none, and no cost."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from typing import Any, Final

SYSTEM: Final = "flask_offload"
TASK: Final = "flask_offload.task"


def _trace() -> Any:
    return sys.modules.get("opentelemetry.trace")


def producer_span(task: str, queue_name: str, operation: str) -> AbstractContextManager[Any]:
    """A span around the making of a job, current inside the block, so that the job carries it.

    operation: "send", or "create" for a job that is enqueued later.
    """
    trace = _trace()
    if trace is None:
        return contextlib.nullcontext()
    attributes = _attributes(task, queue_name, operation)
    span: AbstractContextManager[Any] = trace.get_tracer(SYSTEM).start_as_current_span(
        f"{operation} {queue_name}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    )
    return span


def note_job(job_id: str) -> None:
    """Write the id of the job into the current span."""
    trace = _trace()
    if trace is not None:
        trace.get_current_span().set_attribute("messaging.message.id", job_id)


def consumer_span(
    task: str, queue_name: str, job_id: str, attempt: int
) -> AbstractContextManager[Any]:
    """A span around an attempt, below the one that the job has carried and linked to it."""
    trace = _trace()
    if trace is None:
        return contextlib.nullcontext()
    origin = trace.get_current_span().get_span_context()
    attributes = {
        **_attributes(task, queue_name, "process"),
        "messaging.message.id": job_id,
        "flask_offload.attempt": attempt,
    }
    span: AbstractContextManager[Any] = trace.get_tracer(SYSTEM).start_as_current_span(
        f"process {queue_name}",
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        links=[trace.Link(origin)] if origin.is_valid else None,
    )
    return span


def _attributes(task: str, queue_name: str, operation: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue_name,
        TASK: task,
    }
