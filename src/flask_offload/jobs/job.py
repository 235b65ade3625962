"""A job: its status, its attempts, its record in an engine, and the object that apps use."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from flask import current_app

from .. import signals
from ..errors import JobFailed, NotCommitted, WaitTimeout
from .log_line import LogLine, log_lines
from .moments import moment as moment
from .options import EnqueuedBy

if TYPE_CHECKING:
    from ..payload.calls import Codecs
    from ..payload.spool import Spool


class JobStatus(StrEnum):
    """The status of a job. A job with a future `run_after` is READY too."""

    READY = "READY"
    RUNNING = "RUNNING"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_finished(self) -> bool:
        """Whether the status is final; only `retry` changes it."""
        return self in FINISHED


FINISHED = frozenset({JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.CANCELLED})


def new_id() -> str:
    """A new job id: 48 bits of time in ms, so that ids sort by age, then 128 random bits.

    The random part makes the id a capability: a client that knows it may read the job.
    """
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(16).hex()}"


class Error(msgspec.Struct, frozen=True):
    """Why an attempt, or the whole job, did not succeed; text only."""

    type: str
    message: str
    traceback: str | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One run of a job.

    outcome: None while it runs, else SUCCESSFUL, FAILED, RETRY, CRASHED, INTERRUPTED, CANCELLED.
    """

    number: int
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    error: Error | None = None


class Progress(msgspec.Struct, frozen=True):
    """The progress that a job reported. `fraction` is between 0 and 1, None without a total."""

    done: float
    total: float | None
    fraction: float | None
    message: str | None

    @classmethod
    def of(cls, done: float | None, total: float | None, message: str | None) -> Progress | None:
        """Build it from a record's fields; None if the job never reported."""
        if done is None and message is None:
            return None
        done, total = _finite(done) or 0, _finite(total)
        fraction = min(1.0, max(0.0, done / total)) if total else None
        return cls(done, total, fraction, message)


def _finite(number: float | None) -> float | None:
    """40.0 as 40, since counts should look like counts; None for infinity and NaN."""
    if number is None or not math.isfinite(number):
        return None
    return int(number) if number == int(number) else number


COMMIT = "its commit"
"""What a job waits for whose transaction is open."""

Origin = Literal["enqueue", "respond_async", "schedule"]


class JobRecord(msgspec.Struct, kw_only=True):
    """A job as an engine stores it: times in unix seconds, the result encoded."""

    id: str
    task: str
    queue_name: str
    priority: int
    status: JobStatus
    enqueued_at: float
    run_after: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    attempt: int = 0
    crashes: int = 0
    worker: str | None = None
    owner: str | None = None
    origin: str = "enqueue"
    done: float | None = None
    total: float | None = None
    message: str | None = None
    cancel_requested: bool = False
    waiting_for: str | None = None
    result: str | None = None
    error: Error | None = None
    attempts: list[Attempt] = []
    is_duplicate: bool = False
    enqueued_by: EnqueuedBy | None = None


class JobEngine(Protocol):
    """The part of an engine that a job uses."""

    def get(self, job_id: str) -> JobRecord: ...
    def arguments(self, job_id: str) -> str: ...
    def log(self, job_id: str) -> Sequence[tuple[int, str]]: ...
    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord: ...
    def retry(self, job_id: str) -> JobRecord: ...


class Job:
    """One enqueued call of a task, as of the last read; `refresh()` reads it again."""

    __slots__ = ("_call", "_codecs", "_engine", "_is_listed", "_log", "_record", "_spool")

    def __init__(
        self,
        record: JobRecord,
        engine: JobEngine,
        codecs: Codecs,
        spool: Spool | None = None,
        *,
        is_listed: bool = False,
    ) -> None:
        self._record = record
        self._engine = engine
        self._codecs = codecs
        self._spool = spool
        self._call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._log: list[LogLine] | None = None
        self._is_listed = is_listed  # lists come without results

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.task} {self.status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # --- identity ---

    @property
    def id(self) -> str:
        """Unguessable; ids sort by age."""
        return self._record.id

    @property
    def task(self) -> str:
        """The task's name."""
        return self._record.task

    @property
    def queue_name(self) -> str:
        """The queue."""
        return self._record.queue_name

    @property
    def priority(self) -> int:
        """-100 to 100; higher runs first."""
        return self._record.priority

    @property
    def owner(self) -> str | None:
        """As `using(owner=…)` set it; for `offload.authorize`."""
        return self._record.owner

    @property
    def origin(self) -> str:
        """How it was enqueued: "enqueue", "schedule" or "respond_async"."""
        return self._record.origin

    @property
    def enqueued_by(self) -> EnqueuedBy | None:
        """The route, the user and the trace of the request in which it was enqueued; None for one
        that was enqueued elsewhere."""
        return self._record.enqueued_by

    @property
    def is_duplicate(self) -> bool:
        """Whether enqueue() of a unique task returned this job instead of a new one."""
        return self._record.is_duplicate

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, decoded: rows are fetched, files opened.

        Raises JobNotFound, RowGone and FileGone for what no longer exists (the files of a
        SUCCESSFUL job do not), PayloadError, and UnsupportedByEngine.
        """
        return self._decoded_call()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments; as `args`."""
        return self._decoded_call()[1]

    def _decoded_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        from ..payload.calls import decode_call

        if self._call is None:
            data = self._engine.arguments(self.id)
            self._call = decode_call(data, self._codecs, self.task, spool=self._spool)
        return self._call

    # --- state ---

    @property
    def status(self) -> JobStatus:
        """The status, as last read."""
        return self._record.status

    @property
    def is_finished(self) -> bool:
        """Whether the status, as last read, is final."""
        return self._record.status in FINISHED

    @property
    def waiting_for(self) -> str | None:
        """Why a READY job is held back ("its time", "concurrency", "rate",
        "its commit"); None if it is not."""
        return self._record.waiting_for

    @property
    def cancel_requested(self) -> bool:
        """Whether a RUNNING job has been asked to stop."""
        return self._record.cancel_requested

    @property
    def progress(self) -> Progress | None:
        """The last progress report; None if there was none."""
        record = self._record
        return Progress.of(record.done, record.total, record.message)

    @property
    def run_after(self) -> datetime | None:
        """Earliest start (UTC)."""
        return moment(self._record.run_after)

    @property
    def enqueued_at(self) -> datetime:
        """When it was enqueued (UTC)."""
        enqueued_at = moment(self._record.enqueued_at)
        assert enqueued_at is not None
        return enqueued_at

    @property
    def started_at(self) -> datetime | None:
        """Start of the latest attempt (UTC)."""
        return moment(self._record.started_at)

    @property
    def finished_at(self) -> datetime | None:
        """When it reached a final status (UTC)."""
        return moment(self._record.finished_at)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts so far, the latest last."""
        return self._record.attempts

    @property
    def error(self) -> Error | None:
        """Why it failed or was cancelled; for a job that waits for a retry, the last error."""
        return self._record.error

    @property
    def log(self) -> list[LogLine]:
        """What it has logged so far, the earliest line first: of each attempt the last lines, as
        OFFLOAD_KEEP_LOG says. Read at the first use, and again after `refresh`.

        Raises JobNotFound, and UnsupportedByEngine for engines without `logs`.
        """
        if self._log is None:
            self._log = log_lines(self._engine.log(self.id))
        return self._log

    @property
    def return_value(self) -> Any:
        """What the task returned; None unless the job is SUCCESSFUL, and once the result's own time
        (`result_ttl=`) is over.

        Raises PayloadError if the stored value can't be decoded with the current classes.
        """
        from ..payload.calls import decode_value

        if self._is_listed and self.status is JobStatus.SUCCESSFUL:
            self.refresh()
        result = self._record.result
        return None if result is None else decode_value(result, self._codecs)

    def result(self, timeout: float | None = 0) -> Any:
        """Wait until the job is finished, and return its return value.

        timeout: seconds; 0 does not wait, None waits forever. Raises JobFailed if the job did not
        succeed, WaitTimeout, and PayloadError like `return_value`.
        """
        if not self.is_finished:
            self.wait(timeout)
        if self.status is not JobStatus.SUCCESSFUL:
            why = f"{self.error.type}: {self.error.message}" if self.error else "no reason given"
            raise JobFailed(f"job {self.id} ({self.task}) ended {self.status}: {why}")
        return self.return_value

    # --- actions ---

    def refresh(self) -> Job:
        """Read it again. Raises JobNotFound when its retention time is over."""
        self._record = self._engine.get(self.id)
        self._is_listed, self._log = False, None
        return self

    def wait(self, timeout: float | None = None) -> Job:
        """Block until it has finished.

        timeout: seconds; None waits forever. Raises WaitTimeout. Don't call it in a request:
        that would block the request, which the job is there to avoid.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.002
        while not self.refresh().is_finished:
            if self.waiting_for == COMMIT:
                raise NotCommitted(
                    f"job {self.id} ({self.task}) waits for the commit of the transaction in which"
                    " it was enqueued: commit before you wait for it"
                )
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise WaitTimeout(
                    f"job {self.id} ({self.task}) is still {self.status} after {timeout:g} s;"
                    " it goes on regardless"
                )
            time.sleep(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, 0.1)
        return self

    def cancel(self, *, force: bool = False) -> Job:
        """Cancel it: a READY job never starts; a RUNNING one is asked to stop at its next
        checkpoint, or with `force` ended by replacing its process.

        Raises InvalidTransition if it has finished, JobNotFound if it is gone.
        """
        self._record = self._engine.cancel(self.id, force=force)
        if self._record.status is JobStatus.CANCELLED:  # at once: no worker sends the signal
            app = current_app._get_current_object() if current_app else None  # type: ignore[attr-defined]
            signals.send(signals.cancelled, app, claim=self._record, outcome=None)
        return self

    def retry(self) -> Job:
        """Run a FAILED or CANCELLED job again, with attempts counted from 1 again.

        Raises InvalidTransition for any other status, JobNotFound if it is gone.
        """
        self._record = self._engine.retry(self.id)
        return self


class JobList(list[Job]):
    """Jobs, the newest first.

    next: give it as `before=` to get those that follow; None: there are no more.
    """

    def __init__(self, jobs: Iterable[Job], next: str | None) -> None:
        super().__init__(jobs)
        self.next = next
