"""What follows an attempt on the Celery engine. Nothing runs here: neither Celery nor Redis."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_offload import JobStatus, Offload
from flask_offload.config import Config
from flask_offload.engines.host import Host
from flask_offload.jobs.attempt import Claim, Ending, Outcome
from flask_offload.jobs.job import Error
from flask_offload_celery.transition import transition_of

DIED = Error("WorkerDied", "its process died")


@pytest.fixture
def host() -> Host:
    """With a task that says how long its jobs are kept, and one that does not."""
    offload = Offload()
    keep: dict[str, float] = {JobStatus.FAILED: 5, JobStatus.CANCELLED: 6}
    offload.task(name="brief", keep=keep)(print)
    offload.task(name="plain")(print)
    return Host(Flask(__name__), offload, Config(keep_successful=100.0, keep_failed=1000.0))


@pytest.mark.parametrize(
    ("ending", "on_crash", "keep", "brief", "plain"),
    [
        (Ending.CRASHED, "fail", None, 5, 1000),
        (Ending.INTERRUPTED, "fail", None, 5, 1000),
        # these run again, unless they are to stop: then they end as CANCELLED
        (Ending.CRASHED, "retry", None, 6, 1000),
        (Ending.RETRY, "retry", None, 6, 1000),
        (Ending.SUCCESSFUL, "retry", None, 100, 100),
        (Ending.FAILED, "retry", 7.0, 7, 7),  # the process that ran it has looked
    ],
)
def test_the_keep_of_a_task_applies_where_the_task_is_not_loaded(
    host: Host, ending: Ending, on_crash: str, keep: float | None, brief: float, plain: float
) -> None:
    found = []
    for task in ("brief", "plain"):
        claim = Claim(
            *(0, "id", task, "default", "threads", 0, 1, 0, 0, on_crash),
            *(None, "call", 0.0, 0.0, "[]", None, None),
        )
        outcome = Outcome(0, 1, ending, 0.0, 1.0, error=DIED, keep=keep)
        found.append(transition_of(outcome, claim, host, "w1", 10.0).expires_at - 10.0)
    assert found == [brief, plain]
