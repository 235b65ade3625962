"""One attempt at a job, from claim to outcome, as a line of small steps. Every engine uses it.

asyncio is imported when a task needs it: it takes 2 MiB, and most apps have no such task.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Awaitable, Coroutine, Iterator
from contextvars import copy_context
from dataclasses import replace
from threading import current_thread, main_thread
from typing import Any

from .. import signals
from ..errors import JobCancelled, JobExpired, JobTimeout
from ..jobs import capture, log
from ..jobs.attempt import Ending, Outcome
from ..jobs.context import Interrupted, JobContext, active
from ..jobs.job import Error, JobStatus
from ..jobs.options import JobOptions, options_of
from ..jobs.reported import error_of
from ..payload.calls import encode_value
from ..payload.propagation import (
    let_current_user_work_in_tasks,
    load_context,
    restored_context,
)
from ..payload.tracing import consumer_span
from ..role import is_worker
from ..tasks.options import TaskOptions
from ..tasks.retry import Again, Decision, Discarded, GiveUp, decide
from ..tasks.task import Task
from .host import Host


def run(host: Host, context: JobContext) -> Outcome:
    """Run the attempt here and now. Never raises: whatever happens becomes the outcome.

    But for ^C, which only the main thread receives, where nothing but a test runs jobs.
    """
    began = host.clock()
    try:
        task = _started(host, context)
        with _surroundings(host, context):
            args, kwargs = task.spec.decode(context.claim.args, spool=host.spool)
            value = task.function(*args, **kwargs)
            if task.is_async:
                value = _completed(_within(value, context))
            result = _encoded(host, task, value)
        return _succeeded(host, context, task, result, began)
    except BaseException as error:  # a task may raise anything, SystemExit too
        # not isinstance(), which asks the error for its __class__
        is_interrupt = issubclass(type(error), KeyboardInterrupt)
        if is_interrupt and current_thread() is main_thread() and not is_worker():
            raise
        return ended_badly(host, context, error, began)


async def run_async(host: Host, context: JobContext) -> Outcome:
    """The same for a coroutine function, on the running event loop."""
    began = host.clock()
    try:
        task = _started(host, context)
        with _surroundings(host, context):
            args, kwargs = task.spec.decode(context.claim.args, spool=host.spool)
            value = await _within(task.function(*args, **kwargs), context)
            result = _encoded(host, task, value)
        return _succeeded(host, context, task, result, began)
    except BaseException as error:
        return ended_badly(host, context, error, began)


def ended_badly(host: Host, context: JobContext, error: BaseException, began: float) -> Outcome:
    """The outcome of an attempt that ended with `error`, as its task's options have it.

    Also called for an attempt that was stopped by force, with the error it would have got. A result
    that can't be stored is final: the work is done, and would be done a second time.
    """
    try:
        return _by_policy(host, context, error, began)
    except BaseException as failed:  # what an exception, or its class, is asked for may raise
        kind = type(error).__name__
        reason = Error(kind, f"to handle it raised {type(failed).__name__}")
        claim = context.claim
        outcome = Outcome(
            claim.seq, claim.attempt, Ending.FAILED, began, host.clock(), error=reason
        )
        signals.send(signals.failed, host.app, claim=claim, outcome=outcome)
        return outcome


# --- steps -------------------------------------------------------------------------------------


def _by_policy(host: Host, context: JobContext, error: BaseException, began: float) -> Outcome:
    claim = context.claim
    ended = host.clock()
    if isinstance(error, Interrupted):
        return Outcome(claim.seq, claim.attempt, Ending.INTERRUPTED, began, ended)
    if _is_cancellation(error):
        error = JobCancelled("the job was cancelled while it ran").with_traceback(
            error.__traceback__
        )
    context.exception = error
    options, own = host.task(claim.task).options, options_of(claim.options)
    policy = options.retry
    if own.max_attempts is not None:
        policy = replace(policy, max_attempts=own.max_attempts)
    decision: Decision
    if isinstance(error, _Unstorable):
        context.exception = error = error.reason
        decision = GiveUp("its result can't be stored")
    else:
        decision = decide(policy, error, claim.failures + 1)
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
        error=error_of(error, without_file=__file__),
        after=after,
        keep=_keep(options, own, JobStatus(ending)) if ending is not Ending.RETRY else None,
    )
    outcome.__dict__["exception"] = error
    try:
        signals.send(signal, host.app, claim=claim, outcome=outcome)
    finally:
        del outcome.__dict__["exception"]  # it holds the frames of the task
    return outcome


def _started(host: Host, context: JobContext) -> Task[Any, Any]:
    task = host.task(context.task)
    if log.has_receivers(signals.started, logging.DEBUG):
        signals.send(signals.started, host.app, claim=context.claim)
    expires = options_of(context.claim.options).expires
    if expires is not None and context.claim.attempt == 1:
        late = host.clock() - context.claim.enqueued_at - expires
        if late > 0:
            raise JobExpired(f"it did not start in time: it expired {late:.3g} s before")
    context.check()  # it may have been cancelled before its first line
    return task


@contextlib.contextmanager
def _surroundings(host: Host, context: JobContext) -> Iterator[None]:
    saved = load_context(context.claim.context)
    let_current_user_work_in_tasks()
    token = active.set(context)
    if context.keep_log:
        capture.begin(context, prints=host.config.capture_print)
    try:
        with (
            host.app.app_context(),
            restored_context(host.registry.propagators, saved)
            if saved
            else contextlib.nullcontext(),
            consumer_span(context.task, context.claim.queue_name, context.id, context.attempt),
        ):
            yield
    finally:
        active.reset(token)
        capture.end(context)


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
    """Await it; cancel it when its time is over, which it receives as JobTimeout's cause."""
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
    asyncio = sys.modules.get("asyncio")  # not imported: it has raised nothing
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _encoded(host: Host, task: Task[Any, Any], value: Any) -> str | None:
    if value is None:
        return None
    what = f"the return value of {task.name}"
    try:
        data = encode_value(value, host.registry.codecs, what=what, limit=host.config.max_payload)
    except Exception as error:
        raise _Unstorable(error) from error
    return data.decode()


class _Unstorable(Exception):
    """The task has returned something that can't be stored."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


def _keep(options: TaskOptions, own: JobOptions, status: JobStatus) -> float | None:
    keep = own.keep_for(status)
    return options.keep_for(status) if keep is None else keep


def _succeeded(
    host: Host,
    context: JobContext,
    task: Task[Any, Any],
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
        host.clock(),
        result=result,
        keep=_keep(options, options_of(claim.options), JobStatus.SUCCESSFUL),
        result_ttl=options.result_ttl,
    )
    if log.has_receivers(signals.succeeded, logging.INFO):
        signals.send(signals.succeeded, host.app, claim=claim, outcome=outcome)
    return outcome
