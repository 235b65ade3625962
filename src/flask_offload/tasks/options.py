"""The options of `@offload.task(…)`, checked when the task is declared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from flask import current_app

from ..errors import OptionError
from ..jobs.job import Job, JobStatus
from ..jobs.new_job import ASYNC, ISOLATED, MAX_PRIORITY, MIN_PRIORITY, THREADS
from ..jobs.rate import Rate
from .retry import RetryPolicy, check_max_attempts

KeyFunction = Callable[..., str | int]
FromApp = tuple[tuple[str, Callable[[], Any]], ...]
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The options of a task. Durations are seconds.

    queue_name: letters, digits, `_ . -`, at most 64. priority: -100 to 100, higher runs first.
    retry: the retry policy. timeout: when the job is asked to stop (None: never).
    isolate: run each job in a process of its own. on_crash: "retry" runs the job again when its
    worker process dies, up to three attempts in all; "fail" never runs it twice.
    unique: True, or a function of the arguments that returns the key: while a job with the same key
    is in one of unique_states (default: READY or RUNNING) and younger than unique_for, enqueue
    returns that job. concurrency, rate: limits, per task or per value of their key functions.
    keep: how long a finished job is kept, one number or one per status; result_ttl: its result.
    expires: a job that has not started by then, counted from its enqueue or its run_after, is
    discarded. from_app: options by name whose functions are called when a job is enqueued.
    on_failure: called with a job that has FAILED, in a job of its own.
    expose: "result" includes the result in the job resource over HTTP.
    expose_args: whether the dashboard shows arguments and results, masked by their names.
    """

    queue_name: str = "default"
    priority: int = 0
    retry: RetryPolicy = RetryPolicy()  # noqa: RUF009 (frozen)
    timeout: float | None = None
    isolate: bool = False
    on_crash: Literal["retry", "fail"] = "retry"
    unique: bool | KeyFunction = False
    unique_for: float | None = None
    unique_states: frozenset[JobStatus] | None = None
    concurrency: int | None = None
    concurrency_key: KeyFunction | None = None
    rate: Rate | None = None
    rate_key: KeyFunction | None = None
    keep: Mapping[JobStatus, float] | None = None
    result_ttl: float | None = None
    expires: float | None = None
    from_app: FromApp = ()
    on_failure: Callable[[Job], object] | None = None
    expose: Literal["result"] | None = None
    expose_args: bool = True

    def __post_init__(self) -> None:
        check_queue_name(self.queue_name)
        check_priority(self.priority)
        _check(self.on_crash in ("retry", "fail"), "on_crash", self.on_crash, '"retry" or "fail"')
        _check(self.expose in (None, "result"), "expose", self.expose, '"result" or None')
        for name in ("isolate", "expose_args"):
            value = getattr(self, name)
            _check(isinstance(value, bool), name, value, "True or False")
        is_key = isinstance(self.unique, bool) or callable(self.unique)
        _check(is_key, "unique", self.unique, "True, False or a function of the arguments")
        _check(isinstance(self.rate, Rate | None), "rate", self.rate, 'a text such as "100/m"')
        usable = self.on_failure is None or callable(self.on_failure)
        _check(usable, "on_failure", self.on_failure, "a function of the failed job")
        for name in ("timeout", "unique_for", "result_ttl", "expires"):
            value = getattr(self, name)
            _check(value is None or value > 0, name, value, "seconds above 0, or None")
        _check(
            self.concurrency is None or (type(self.concurrency) is int and self.concurrency > 0),
            "concurrency",
            self.concurrency,
            "a whole number above 0",
        )
        for name, limit in (("concurrency_key", "concurrency"), ("rate_key", "rate")):
            key = getattr(self, name)
            _check(key is None or callable(key), name, key, "a function of the arguments")
            if key is not None and getattr(self, limit) is None:
                raise OptionError(f"{name}= needs {limit}=: a key alone limits nothing.")
        for name in ("unique_for", "unique_states"):
            if getattr(self, name) is not None and not self.unique:
                raise OptionError(f"{name}= needs unique=: write unique=True, or a key function.")

    def lane(self, is_async: bool) -> str:
        """The lane of the task's jobs: which part of a worker runs them."""
        if self.isolate:
            return ISOLATED
        return ASYNC if is_async else THREADS

    def keep_for(self, status: JobStatus) -> float | None:
        """Seconds that a job with this final status is kept; None: the app's setting."""
        return None if self.keep is None else self.keep.get(status)


def seconds(name: str, value: Any) -> float | None:
    """A duration given as a number of seconds or a timedelta. Raises OptionError."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise OptionError(f"{name}={value!r}: give seconds or a timedelta.")


def keep_per_status(value: Any) -> dict[JobStatus, float] | None:
    """`keep=` as given: one duration for every outcome, or a mapping from status to duration."""
    if value is None:
        return None
    finished = (JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.CANCELLED)
    if not isinstance(value, Mapping):
        value = dict.fromkeys(finished, value)
    result = {}
    for status, duration in value.items():
        _check(status in finished, "keep", status, "a mapping of finished statuses")
        number = seconds("keep", duration)
        if number is None or number < 0:
            raise OptionError(f"keep={value!r}: give seconds of 0 or more, or a timedelta.")
        result[JobStatus(status)] = number
    return result


READ_AT_ENQUEUE = ("queue_name", "priority", "timeout", "max_attempts", "keep", "expires")
"""Options that may be functions, which are called when a job is enqueued."""


def job_option(name: str, value: Any) -> Any:
    """An option of one job, checked and converted as that of a task is. Raises OptionError."""
    if name == "queue_name":
        check_queue_name(value)
    elif name == "priority":
        check_priority(value)
    elif name == "max_attempts":
        check_max_attempts(value)
    elif name == "keep":
        return keep_per_status(value)
    else:
        value = seconds(name, value)
        _check(value is None or value > 0, name, value, "seconds above 0")
    return value


def from_config(key: str, default: Any = ...) -> Callable[[], Any]:
    """An option of a task that is read from the app's configuration whenever a job is enqueued:
    `@offload.task(timeout=from_config("MAIL_TIMEOUT"))`.

    default: for apps without the key; without a default they raise OptionError at the enqueue.
    """

    def read() -> Any:
        value = current_app.config.get(key, default)
        if value is ...:
            raise OptionError(
                f"a task's option is from_config({key!r}), but the app's configuration has no"
                f" {key}: set it, or give a default"
            )
        return value

    return read


def check_task_name(value: Any) -> None:
    """Raise OptionError unless it can be the name of a task."""
    good = isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200
    _check(good, "name", value, "a text of 1 to 200 characters")


def check_queue_name(value: Any) -> None:
    """Raise OptionError unless it can be the name of a queue."""
    _check(
        isinstance(value, str) and NAME.fullmatch(value) is not None,
        "queue_name",
        value,
        "1 to 64 letters, digits and _ . -",
    )


def check_priority(value: Any) -> None:
    """Raise OptionError unless it is a whole number from -100 to 100."""
    _check(
        type(value) is int and MIN_PRIORITY <= value <= MAX_PRIORITY,
        "priority",
        value,
        f"a whole number from {MIN_PRIORITY} to {MAX_PRIORITY}",
    )


def _check(good: bool, name: str, value: Any, expected: str) -> None:
    if not good:
        raise OptionError(f"{name}={value!r} can't be used: it takes {expected}.")
