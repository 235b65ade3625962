"""The running job as its task sees it: `current_job`."""

from __future__ import annotations

import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, ParamSpec, TypeVar, overload

from werkzeug.local import LocalProxy

from ..errors import JobCancelled, JobTimeout, NoCurrentJob, PayloadError, PayloadTooLarge
from ..payload.propagation import load_context
from . import reported
from .attempt import Claim, Report
from .job_log import AttemptLog
from .steps import Steps, check_name, stable_key

T = TypeVar("T")
P = ParamSpec("P")

REPORT_EVERY = 0.25
"""Seconds between two writes of a job's progress; of reports in between the last one is kept."""

MAX_CURSOR = 100_000
"""Characters of a cursor as JSON; it is written with every report."""

StopReason = Literal["cancel", "drain"]

_opening = threading.RLock()


class Interrupted(BaseException):
    """Ends an attempt at a checkpoint for a stopping worker. Not an Exception, so that tasks that
    catch exceptions let it pass; the job resumes from its cursor in another worker."""


class JobContext:
    """One attempt; tasks use it through `current_job`.

    emit: receives the reports, to be written to the store. timeout: seconds, None for no limit.
    steps: makes what keeps the results of `once`; None in a plain call. keep_log: lines that are
    kept.
    """

    __slots__ = (
        "_cursor",
        "_deadline",
        "_done",
        "_emit",
        "_is_dirty",
        "_log",
        "_message",
        "_next_report",
        "_steps",
        "_total",
        "claim",
        "exception",
        "keep_log",
        "stop",
        "timeout",
    )

    def __init__(
        self,
        claim: Claim,
        emit: Callable[[Report], None],
        timeout: float | None = None,
        steps: Callable[[Claim], Steps] | None = None,
        keep_log: int = 0,
    ) -> None:
        self.claim: Claim = claim
        self.stop: StopReason | None = None
        self.exception: BaseException | None = None
        """What ended the attempt; an engine that runs it in the caller's thread may raise it."""
        self.keep_log: int = keep_log
        self._log: AttemptLog | None = None
        self._is_dirty = False
        self._emit = emit
        self.timeout: float | None = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._next_report = 0.0
        self._done: float | None = None
        self._total: float | None = None
        self._message: str | None = None
        self._cursor: str | None = None
        self._steps = steps

    # --- the job ---

    @property
    def id(self) -> str:
        """The job's id."""
        return self.claim.id

    @property
    def task(self) -> str:
        """The task's name."""
        return self.claim.task

    @property
    def attempt(self) -> int:
        """The number of this attempt; the first is 1."""
        return self.claim.attempt

    @property
    def queue_name(self) -> str:
        """The job's queue."""
        return self.claim.queue_name

    @property
    def priority(self) -> int:
        """-100 to 100; higher runs first."""
        return self.claim.priority

    @property
    def owner(self) -> str | None:
        """As `using(owner=…)` set it."""
        return self.claim.owner

    @property
    def carried(self) -> dict[str, Any]:
        """The values that `@offload.carry` saved in the request, by name."""
        saved = load_context(self.claim.context)
        return {name: value for name, value in saved.items() if not name.startswith("_")}

    # --- effects once ---

    @overload
    def once(
        self,
        name: str,
        function: Callable[P, Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def once(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    def once(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do a step of the job once: call the function and store its result at once, so that an
        attempt after a crash or a retry returns that result and skips the call. Await it for an
        async function::

            receipt = current_job.once("charge", charge, order.id)

        A crash between the call's effect and its record repeats the call: pass `key(name)` to what
        it calls, such as an API with idempotency keys. A call that raises is not done.

        name: unique in the job. Raises StepTooLarge and PayloadError for a result that can't be
        stored (the step counts as done), and JobCancelled in an attempt that is no longer the
        job's.
        """
        if inspect.iscoroutinefunction(function):
            return self._once_async(name, function, args, kwargs)
        if self._steps is None:  # a plain call
            check_name(name)
            return function(*args, **kwargs)
        steps = self._steps(self.claim)
        done = steps.load(name)
        if done is not None:
            return done[0]
        result = function(*args, **kwargs)
        steps.save(name, result)
        return result

    async def _once_async(
        self, name: str, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        from asyncio import to_thread  # only async tasks need it

        if self._steps is None:
            check_name(name)
            return await function(*args, **kwargs)
        steps = self._steps(self.claim)
        done = await to_thread(steps.load, name)
        if done is not None:
            return done[0]
        result = await function(*args, **kwargs)
        await to_thread(steps.save, name, result)
        return result

    def key(self, name: str) -> str:
        """32 hexadecimal digits that are the same in every attempt of this job, for an API's
        Idempotency-Key or a Message-ID. In a plain call they are new each time."""
        check_name(name)
        return stable_key(self.id or os.urandom(16).hex(), name)

    # --- progress and checkpoints ---

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress; also a checkpoint, which raises what `check` raises.

        Call it as often as you like: it is written at most four times a second.

        done, total: numbers; Decimal, Fraction and numpy's are converted. message: `str()` of it,
        cut at 2,000 characters. Raises TypeError for what is not a number, and ValueError for one
        that is not finite.
        """
        self._done = reported.number(done, "progress(done)")
        self._total = None if total is None else reported.number(total, "progress(total)")
        if message is not None:
            self._message = reported.message(message)
        self._report_soon()
        self.check()

    def track(
        self, items: Iterable[T], total: float | None = None, message: str | None = None
    ) -> Iterator[T]:
        """Iterate over `items` and report progress; the total is `len(items)` if there is one."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        done = 0
        self.progress(done, total, message)
        for item in items:
            yield item
            done += 1
            self.progress(done, total)

    def check(self) -> None:
        """A checkpoint: raises JobCancelled if the job was asked to stop, and JobTimeout if it has
        run longer than its timeout."""
        if self.stop == "cancel":
            raise JobCancelled("the job was cancelled while it ran")
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise JobTimeout(f"the job has run longer than its timeout of {self.timeout:g} s")

    def checkpoint(self, cursor: Any) -> None:
        """Store the position of the work, so that the next attempt can resume there.

        cursor: any JSON value; `current_job.cursor` returns it after a crash, a retry or a deploy.
        When the worker stops, the attempt ends here and the job resumes in another worker; that
        does not count as an attempt. Raises PayloadError for a value that is not JSON,
        PayloadTooLarge above MAX_CURSOR characters, and what `check` raises.
        """
        try:
            text = json.dumps(cursor, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise PayloadError(
                f"{self.task}: checkpoint() got a value that can't be stored as JSON ({error}):"
                " give numbers, text, lists and dicts"
            ) from None
        if len(text) > MAX_CURSOR:
            raise PayloadTooLarge(
                f"{self.task}: checkpoint() got {len(text):,} characters of JSON, more than"
                f" {MAX_CURSOR:,}: store a position, and the data elsewhere"
            )
        self._cursor = text
        if self.stop == "drain":
            self.flush()
            raise Interrupted
        self._report_soon()
        self.check()

    @property
    def cursor(self) -> Any:
        """The value of the last `checkpoint`, in this attempt or an earlier one; None at first."""
        text = self._cursor if self._cursor is not None else self.claim.cursor
        return None if text is None else json.loads(text)

    def _report_soon(self) -> None:
        """Write the new state, or keep it if the last write is less than REPORT_EVERY ago."""
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + REPORT_EVERY
            self.flush()
        else:
            self._is_dirty = True

    @property
    def is_dirty(self) -> bool:
        """Whether there is something that `flush` should write now."""
        return self._is_dirty or (self._log is not None and self._log.is_due)

    def flush(self) -> None:
        """Write what has not been written yet; of the log, what is due."""
        self._is_dirty = False
        log = None if self._log is None else self._log.take()
        claim = self.claim
        progress = (self._done, self._total, self._message, self._cursor)
        self._emit(Report(claim.seq, claim.attempt, *progress, log))

    def finish(self) -> None:
        """Write all that has not been written yet. The attempt has ended, and keeps no more."""
        self.keep_log = 0
        if self._log is not None:
            self._log.end(time.time())
        if self.is_dirty:
            self.flush()

    @property
    def log(self) -> AttemptLog:
        """What the attempt has logged."""
        if self._log is None:
            with _opening:
                self._log = self._log or AttemptLog(self.keep_log)
        return self._log


class PlainCall(JobContext):
    """`current_job` while a task is called directly: false, and without an id. Progress and
    checkpoints are accepted and discarded."""

    __slots__ = ()

    def __init__(self, task: str) -> None:
        empty = Claim(
            *(0, "", task, "", "", 0),
            attempt=1,
            failures=0,
            crashes=0,
            on_crash="",
            owner=None,
            origin="",
            enqueued_at=0.0,
            claimed_at=0.0,
            args="",
            context=None,
            cursor=None,
        )
        super().__init__(empty, lambda report: None)

    def __bool__(self) -> bool:
        return False


active: ContextVar[JobContext] = ContextVar("flask_offload.current_job")


def _active() -> JobContext:
    context = active.get(None)
    if context is None:
        raise NoCurrentJob
    return context


current_job: JobContext = LocalProxy(_active)  # type: ignore[assignment]
"""The running job, like Flask's `current_app`. False outside of one."""


@contextmanager
def called_plainly(task: str) -> Iterator[None]:
    """For the block of a direct call of a task. Inside a job, that job stays the current one."""
    if active.get(None) is not None:
        yield
        return
    token = active.set(PlainCall(task))
    try:
        yield
    finally:
        active.reset(token)
