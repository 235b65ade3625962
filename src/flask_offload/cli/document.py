"""A job as a JSON document for the operator: everything known about it.

`web.representation` makes the shorter document that HTTP clients get, with the same names.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..jobs.job import Job


def job_json(job: Job) -> Any:
    """The job as a dict, under the names of its attributes. Times are ISO 8601 in UTC.

    A return value that is not JSON is converted (a date to text, a row to its `str`); one that
    can't be decoded any more is shown as it is stored.
    """
    return plain(
        {
            "id": job.id,
            "task": job.task,
            "queue_name": job.queue_name,
            "priority": job.priority,
            "status": job.status,
            "owner": job.owner,
            "origin": job.origin,
            "enqueued_by": job.enqueued_by,
            "run_after": job.run_after,
            "enqueued_at": job.enqueued_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "waiting_for": job.waiting_for,
            "cancel_requested": job.cancel_requested,
            "attempts": job.attempts,
            "progress": job.progress,
            "return_value": _return_value(job),
            "error": job.error,
        }
    )


def plain(value: Any) -> Any:
    """The value converted to dict, list, str, numbers, bool and None."""
    return json.loads(msgspec.json.encode(value, enc_hook=str))


def _return_value(job: Job) -> Any:
    try:
        return plain(job.return_value)
    except Exception:  # decoding may fetch a row, and run codecs of the app
        return json.loads(job._record.result or "null")
