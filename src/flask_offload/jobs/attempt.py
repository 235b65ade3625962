"""What a store and a worker exchange: a claim, reports while it runs, an outcome."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from .job import Error, JobStatus


class Ending(StrEnum):
    """How an attempt ended. The first three end the job too; the others make it READY again."""

    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    RETRY = "RETRY"
    """It failed and is to be tried again."""
    INTERRUPTED = "INTERRUPTED"
    """It stopped at a checkpoint because its worker stops; it does not count as an attempt."""
    CRASHED = "CRASHED"
    """Its process died."""

    @property
    def status(self) -> JobStatus:
        """The job's status after it, unless `follow` gives the job up."""
        return JobStatus(self) if self in ENDS_THE_JOB else JobStatus.READY


ENDS_THE_JOB: Final = frozenset({Ending.SUCCESSFUL, Ending.FAILED, Ending.CANCELLED})


class Claim(msgspec.Struct, array_like=True):
    """A job claimed by a worker, with everything needed for one attempt.

    seq, attempt and the worker's id together are the fence: only the worker that still holds this
    attempt may write to the job. ticket: the job's index in the worker's table of slots.
    """

    seq: int
    id: str
    task: str
    queue_name: str
    lane: str
    priority: int
    attempt: int
    failures: int
    crashes: int
    on_crash: str
    owner: str | None
    origin: str
    enqueued_at: float
    claimed_at: float
    args: str
    context: str | None
    cursor: str | None
    ticket: int = -1
    options: str | None = None
    """The job's JobOptions (JSON)."""


class Outcome(msgspec.Struct, array_like=True, dict=True):
    """How an attempt ended. Times in unix seconds, durations in seconds.

    after: before a RETRY may start. keep: how long the job is kept; None: the writer of the outcome
    looks it up, because the process that ran the job may be dead.
    """

    seq: int
    attempt: int
    ending: Ending
    started_at: float
    finished_at: float
    result: str | None = None
    error: Error | None = None
    after: float = 0.0
    keep: float | None = None
    result_ttl: float | None = None

    @property
    def exception(self) -> BaseException | None:
        """What ended the attempt, while receivers of its signal are called in the process where it
        was raised; None elsewhere."""
        return self.__dict__.get("exception")


class Report(msgspec.Struct, array_like=True):
    """Progress of a running job. cursor: where the next attempt resumes (JSON).

    log: all the lines of the attempt that are kept (JSON), None if there are no new ones.
    """

    seq: int
    attempt: int
    done: float | None
    total: float | None
    message: str | None
    cursor: str | None
    log: str | None = None

    @property
    def has_progress(self) -> bool:
        """Whether it reports anything but the log."""
        return any(each is not None for each in (self.done, self.message, self.cursor))


def latest(reports: Iterable[Report]) -> list[Report]:
    """The last report of each attempt, with the newest log."""
    found: dict[tuple[int, int], Report] = {}
    for report in reports:
        before = found.get((report.seq, report.attempt))
        if before is not None and report.log is None:
            report.log = before.log
        found[report.seq, report.attempt] = report
    return list(found.values())
