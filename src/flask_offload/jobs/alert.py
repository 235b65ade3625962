"""What OFFLOAD_ALERT is called with, and the job that calls it."""

from __future__ import annotations

import json

import msgspec

from .failure import following_job
from .job import Error
from .new_job import NewJob

ALERT = "flask_offload.alert"
"""The task of such a job."""


class Alert(msgspec.Struct, frozen=True):
    """What OFFLOAD_ALERT is called with, when the jobs of a task begin to fail, and when one
    succeeds again.

    task: its name. count: how many of its jobs have FAILED since one succeeded: 1, 10, 100 and so
    on, or, if `is_recovered`, all of them. job_id: the last of these jobs, or the one that has
    succeeded. error: of the failed job; None if that is deleted already, or one has succeeded.
    """

    task: str
    count: int
    job_id: str
    error: Error | None
    is_recovered: bool


def is_alert_due(count: int) -> bool:
    """Whether so many failures are made known: 1, 10, 100 and so on."""
    return str(count).rstrip("0") == "1"


def alert_job(
    alert: tuple[str, int, str, bool], queue_name: str, context: str | None, now: float
) -> NewJob:
    """The job to enqueue with the outcome that causes an alert, in the queue and context of that
    job. alert: task, count, job_id and is_recovered of the Alert. now: unix seconds."""
    return following_job(ALERT, json.dumps([alert, {}]), queue_name, context, now)
