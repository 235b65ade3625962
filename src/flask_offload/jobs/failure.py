"""The job that calls the `on_failure=` of a task whose job has FAILED."""

from __future__ import annotations

from .job import new_id
from .new_job import NewJob

ON_FAILURE = "flask_offload.on_failure"
"""The task of such a job; its argument is the id of the failed one."""


def failure_job(job_id: str, queue_name: str, context: str | None, now: float) -> NewJob:
    """The job to enqueue with the outcome of a failed one, in that one's queue and context. now:
    unix seconds."""
    return following_job(ON_FAILURE, f'[["{job_id}"],{{}}]', queue_name, context, now)


def following_job(task: str, args: str, queue_name: str, context: str | None, now: float) -> NewJob:
    """A job of one of this package's own tasks, to enqueue with the outcome that causes it. args:
    encoded."""
    return NewJob(
        id=new_id(),
        task=task,
        queue_name=queue_name,
        priority=0,
        enqueued_at=now,
        args=args,
        origin=task.rpartition(".")[2],
        context=context,
    )
