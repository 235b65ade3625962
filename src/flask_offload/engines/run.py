"""One attempt at a job, from claim to outcome, as a line of small steps. Every engine uses it.

asyncio is imported when a task needs it: it takes 2 MiB, and most apps have no such task.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask

from .. import signals
from ..errors import JobCancelled, JobTimeout, UnknownTask
from ..jobs import log
from ..jobs.attempt import Claim, Ending, Outcome, Report
from ..jobs.context import Interrupted, JobContext, active
from ..jobs.job import Error, JobStatus
from ..payload.calls import CallSpec, Codecs, encode_value
from ..payload.propagation import Carry, load, restored
from ..tasks.retry import Again, Discarded, decide

if TYPE_CHECKING:
    from ..payload.spool import Spool
    from ..tasks.options import TaskOptions

TRACEBACK_LINES = 60


class Runnable(Protocol):
    """What the pipeline needs of a task."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def spec(self) -> CallSpec: ...
    @property
    def options(self) -> TaskOptions: ...
    @property
    def is_async(self) -> bool: ...


@dataclass(frozen=True)
class Environment:
    """What jobs run in: the app, its tasks, how values are carried. clock: unix seconds."""

    app: Flask
    lookup: Callable[[str], Runnable | None]
    carries: tuple[Carry, ...]
    codecs: Codecs
    max_payload: int
    spool: Spool | None = None
    clock: Callable[[], float] = time.time

    def find(self, name: str) -> Runnable:
        """The task of that name, by exact name only. Raises UnknownTask."""
        task = self.lookup(name)
        if task is None:
            raise UnknownTask(
                f"no task {name!r} is registered here: import the module that declares it where"
                " the app is made"
            )
        return task

    def context(self, claim: Claim, emit: Callable[[Report], None]) -> JobContext:
        """The context in which `claim` will run."""
        return JobContext(claim, emit, self.find(claim.task).options.timeout)


def run(environment: Environment, context: JobContext) -> Outcome:
    """Run the attempt here and now. Never raises: whatever happens becomes the outcome.

    But for ^C, which only the main thread hears, where nothing but a test runs jobs.
    """
    began = environment.clock()
    try:
        task = _started(environment, context)
        with _surroundings(environment, context):
            args, kwargs = task.spec.decode(context.claim.args, spool=environment.spool)
            value = task.function(*args, **kwargs)
            if task.is_async:
                value = _completed(_within(value, context))
            result = _encoded(environment, task, value)
        return _succeeded(environment, context, task, result, began)
    except BaseException as error:  # a task may raise anything, SystemExit too
        if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
            raise
        return ended_badly(environment, context, error, began)


async def run_async(environment: Environment, context: JobContext) -> Outcome:
    """The same for a coroutine function, on the running event loop."""
    began = environment.clock()
    try:
        task = _started(environment, context)
        with _surroundings(environment, context):
            args, kwargs = task.spec.decode(context.claim.args, spool=environment.spool)
            value = await _within(task.function(*args, **kwargs), context)
            result = _encoded(environment, task, value)
        return _succeeded(environment, context, task, result, began)
    except BaseException as error:
        return ended_badly(environment, context, error, began)


def ended_badly(
    environment: Environment, context: JobContext, error: BaseException, began: float
) -> Outcome:
    """The outcome of an attempt that ended with `error`, as its task's options have it.

    Also called for an attempt that was stopped by force, with the error it would have got.
    """
    claim = context.claim
    ended = environment.clock()
    if isinstance(error, Interrupted):
        return Outcome(claim.seq, claim.attempt, Ending.INTERRUPTED, began, ended)
    if _is_cancellation(error):
        error = JobCancelled("the job was cancelled while it ran").with_traceback(
            error.__traceback__
        )
    options = environment.find(claim.task).options
    decision = decide(options.retry, error, claim.failures + 1)
    ending, after, signal = Ending.FAILED, 0.0, signals.failed
    if isinstance(decision, Again):
        ending, after, signal = Ending.RETRY, decision.after, signals.retried
    elif isinstance(decision, Discarded):
        ending, signal = Ending.CANCELLED, signals.cancelled
    outcome = Outcome(
        claim.seq,
        claim.attempt,
        ending,
        began,
        ended,
        error=described(error),
        after=after,
        keep=options.keep_for(JobStatus(ending)) if ending is not Ending.RETRY else None,
    )
    signals.send(signal, environment.app, claim=claim, outcome=outcome)
    return outcome


def described(error: BaseException) -> Error:
    """An exception as text, its traceback without this module's own frames."""
    try:
        text = str(error)
    except Exception:
        text = "(its __str__ failed)"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    shown = error.with_traceback(trace)
    lines = "".join(traceback.format_exception(shown)).splitlines()
    if len(lines) > TRACEBACK_LINES:
        half = TRACEBACK_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    return Error(type(error).__name__, _storable(text), _storable("\n".join(lines)))


# --- steps -------------------------------------------------------------------------------------


def _started(environment: Environment, context: JobContext) -> Runnable:
    task = environment.find(context.task)
    if log.is_heard(signals.started, logging.DEBUG):
        signals.send(signals.started, environment.app, claim=context.claim)
    context.check()  # it may have been cancelled before its first line
    return task


@contextlib.contextmanager
def _surroundings(environment: Environment, context: JobContext) -> Iterator[None]:
    saved = load(context.claim.context)
    token = active.set(context)
    try:
        with (
            environment.app.app_context(),
            restored(environment.carries, saved) if saved else contextlib.nullcontext(),
        ):
            yield
    finally:
        active.reset(token)


def _completed(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run it to its end; in a thread of its own if an event loop runs in this one already."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()


async def _within(call: Awaitable[Any], context: JobContext) -> Any:
    """Await it; cancel it when its time is over, which it hears as JobTimeout's cause."""
    import asyncio

    timeout = context.timeout
    try:
        async with asyncio.timeout(timeout) as scope:
            return await call
    except TimeoutError as error:
        if scope.expired():
            raise JobTimeout(f"the job has run longer than its timeout of {timeout:g} s") from error
        raise


def _is_cancellation(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")  # what nobody has imported can't have raised anything
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _encoded(environment: Environment, task: Runnable, value: Any) -> str | None:
    if value is None:
        return None
    what = f"the return value of {task.name}"
    data = encode_value(value, environment.codecs, what=what, limit=environment.max_payload)
    return data.decode()


def _succeeded(
    environment: Environment,
    context: JobContext,
    task: Runnable,
    result: str | None,
    began: float,
) -> Outcome:
    claim = context.claim
    options = task.options
    outcome = Outcome(
        claim.seq,
        claim.attempt,
        Ending.SUCCESSFUL,
        began,
        environment.clock(),
        result=result,
        keep=options.keep_for(JobStatus.SUCCESSFUL),
        result_ttl=options.result_ttl,
    )
    if log.is_heard(signals.succeeded, logging.INFO):
        signals.send(signals.succeeded, environment.app, claim=claim, outcome=outcome)
    return outcome


def _storable(text: str) -> str:
    """Text that a database and a terminal can take: no lone surrogates, no NULs, bounded."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:20_000]
