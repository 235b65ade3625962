"""What a store has counted of attempts and enqueues, for charts and metrics."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..jobs.attempt import Ending
from ..jobs.job import JobStatus

BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds up to which the buckets of `CounterRow` count; one more takes the rest. Tables have
columns by their number: another list is another table."""

ENQUEUE_BOUNDS = (1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""The same for `EnqueueTimes`: as many, as they are in the same columns."""


class CounterRow(msgspec.Struct, kw_only=True, frozen=True):
    """What became of attempts.

    ending: None for jobs that were cancelled while they waited: no attempt.
    minute: when it began (unix seconds); 0 in totals, which are by task. status: of the job after
    the attempt. ran: seconds in all. starts, waited: first attempts, and the seconds that they
    waited after they were due. ran_up_to, waited_up_to: how many are in each bucket of BOUNDS.
    """

    minute: float
    task: str
    ending: Ending | None
    status: JobStatus
    attempts: int
    ran: float
    starts: int
    waited: float
    ran_up_to: Sequence[int]
    waited_up_to: Sequence[int]


class EnqueueTimes(msgspec.Struct, kw_only=True, frozen=True):
    """How long the store took to accept jobs.

    calls: of enqueue, each with one job or many. seconds: in all. up_to: how many are in each
    bucket of ENQUEUE_BOUNDS.
    """

    calls: int
    seconds: float
    up_to: Sequence[int]
