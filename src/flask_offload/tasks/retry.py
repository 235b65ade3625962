"""Whether a failed attempt is followed by another one: pure functions, no clock, no store."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias, TypeGuard

from ..errors import Discard, JobCancelled, OptionError, Retry
from ..jobs.reported import shown, text_of

EXPLICIT_ATTEMPTS = 25
"""Attempts that a task gets by raising `Retry` when `max_attempts` was left at 1.

A task that polls may raise `Retry` forever by mistake; 25 is Sidekiq's default limit of retries. A
`max_attempts` above 1 takes its place.
"""

LONGEST_WAIT = 10 * 366 * 86_400.0
"""Waits (seconds) are capped at about ten years, so that the time stays a valid date."""

ExceptionTypes: TypeAlias = tuple[type[BaseException], ...]
Uniform: TypeAlias = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Exponential:
    """Waits that grow with every failed attempt; made by `exponential()`.

    first: seconds, the upper end of the wait after the first failed attempt.
    factor: what the upper end is multiplied with after each further one.
    cap: seconds, the upper end never passes it.
    jitter: draw the wait between 0 and the upper end, instead of taking the upper end itself.
    """

    first: float
    factor: float
    cap: float
    jitter: bool

    def __post_init__(self) -> None:
        for name in ("first", "factor", "cap"):
            value = getattr(self, name)
            if not _is_number(value) or not math.isfinite(value):
                raise OptionError(f"exponential({name}={value!r}): give a number.")
        if self.first <= 0:
            raise OptionError(
                f"exponential(first={self.first!r}): the first wait must be longer than 0 seconds; "
                "for no wait at all write backoff=0."
            )
        if self.factor < 1:
            raise OptionError(
                f"exponential(factor={self.factor!r}): the waits would get shorter each time; "
                "give a factor of 1 or more."
            )
        if self.cap < self.first:
            raise OptionError(
                f"exponential(first={self.first!r}, cap={self.cap!r}): the cap is below the "
                "first wait; raise cap, or lower first."
            )

    def ceiling(self, attempt: int) -> float:
        """The longest wait in seconds after failed attempt number `attempt` (the first is 1)."""
        try:
            return min(self.cap, self.first * self.factor ** (attempt - 1))
        except OverflowError:
            return self.cap

    def wait(self, attempt: int, uniform: Uniform) -> float:
        """The wait in seconds after failed attempt number `attempt`.

        With jitter this is "full jitter": random_between(0, min(cap, first * factor ** (attempt -
        1))). Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015,
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, where waits
        without jitter cost both more calls and more time than any variant with it.
        """
        ceiling = self.ceiling(attempt)
        return uniform(0.0, ceiling) if self.jitter else ceiling


def exponential(
    first: float = 1.0, factor: float = 2.0, cap: float = 300.0, jitter: bool = True
) -> Exponential:
    """A backoff of `first`, `first * factor`, `first * factor**2`, … seconds, never above `cap`.

    jitter: draw each wait uniformly between 0 and that value ("full jitter"), so that jobs that
        failed together are not retried together.
    Raises OptionError for numbers that can't be used.
    """
    return Exponential(first, factor, cap, jitter)


Duration: TypeAlias = float | timedelta
Backoff: TypeAlias = Duration | Exponential | Callable[[BaseException, int], Duration | None]
"""Seconds or a timedelta; `exponential()`; or a function `(exception, attempt) -> seconds | None`.

`attempt` is the number of the attempt that just failed, the first is 1; None means: give up.
"""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a task is retried. Checked when the task is declared.

    max_attempts: how often a job may run, the first run included. 1: no retries.
    backoff: the wait between two attempts, see `Backoff`.
    retry_on: only exceptions of these types are retried.
    discard_on: exceptions of these types end the job CANCELLED at once; they take precedence over
    `retry_on`.

    Raises OptionError when a value can't be used.
    """

    max_attempts: int = 1
    backoff: Backoff = field(default_factory=exponential)
    retry_on: ExceptionTypes = (Exception,)
    discard_on: ExceptionTypes = ()

    def __post_init__(self) -> None:
        check_max_attempts(self.max_attempts)
        _check_backoff(self.backoff)
        _check_types("retry_on", self.retry_on)
        _check_types("discard_on", self.discard_on)
        for kind in self.retry_on:
            if kind in self.discard_on:
                raise OptionError(
                    f"{kind.__name__} is both in retry_on and in discard_on: keep it in one."
                )


@dataclass(frozen=True, slots=True)
class Again:
    """Run the job again, `after` seconds from now."""

    after: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Don't run it again: the job has failed. `reason` says why no further attempt follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Discarded:
    """Don't run it again: the job ends CANCELLED, with `reason` as its error."""

    reason: str


Decision: TypeAlias = Again | GiveUp | Discarded


def decide(
    policy: RetryPolicy,
    exception: BaseException,
    failures: int,
    *,
    uniform: Uniform = random.uniform,
) -> Decision:
    """What follows an attempt that ended with `exception`.

    failures: attempts of this job that have ended with an exception, this one included (1 or more).
        Attempts that were interrupted (drain) or lost (a dead worker) don't count.
    uniform: the source of jitter, `(low, high) -> number between them`.

    - `Discard`, `JobCancelled` and everything in `discard_on` end the job CANCELLED.
    - `Retry` asks for another attempt whatever `retry_on` says. It counts as an attempt: up to
      `max_attempts`, or up to EXPLICIT_ATTEMPTS when that was left at 1.
    - Anything else, `JobTimeout` too, is retried when it is in `retry_on` and attempts are left.
    """
    if isinstance(exception, Discard):
        return Discarded(text_of(exception))
    if isinstance(exception, (JobCancelled, *policy.discard_on)):
        return Discarded(_described(exception))
    explicit = isinstance(exception, Retry)
    if not explicit and not isinstance(exception, policy.retry_on):
        return GiveUp(f"{type(exception).__name__} is not in retry_on")
    allowed = policy.max_attempts
    if explicit and allowed == 1:
        allowed = EXPLICIT_ATTEMPTS
    if failures >= allowed:
        return GiveUp(f"attempt {failures} of {allowed} was the last")
    return _wait(policy.backoff, exception, failures, uniform)


def _wait(
    backoff: Backoff, exception: BaseException, failures: int, uniform: Uniform
) -> Again | GiveUp:
    after: object
    if isinstance(exception, Retry) and exception.after is not None:
        after, source = exception.after, "Retry(after=…)"
    elif isinstance(backoff, Exponential):
        after, source = backoff.wait(failures, uniform), "backoff"
    elif callable(backoff):
        try:
            after, source = backoff(exception, failures), "the backoff function"
        except BaseException as error:  # must not hide the job's own error
            return GiveUp(f"the backoff function raised {_described(error)}")
        if after is None:
            return GiveUp("the backoff function returned None")
    else:
        after, source = backoff, "backoff"
    seconds = _seconds(after)
    if seconds is None:
        return GiveUp(f"{source} gave {shown(after)} instead of a number of seconds")
    return Again(min(max(seconds, 0.0), LONGEST_WAIT))


def _described(exception: BaseException) -> str:
    text = text_of(exception)
    return f"{type(exception).__name__}: {text}" if text else type(exception).__name__


def check_max_attempts(value: object) -> None:
    """Raise OptionError unless it is a whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise OptionError(
            f"max_attempts={value!r}: give a whole number, such as 5; 1 means no retries."
        )
    if value < 1:
        raise OptionError(
            f"max_attempts={value}: the job would never run; the first run counts, so 1 means "
            "no retries."
        )


def _check_backoff(value: object) -> None:
    if isinstance(value, Exponential):
        return
    if callable(value):
        _check_function(value)
        return
    seconds = _seconds(value)
    if seconds is None:
        raise OptionError(
            f"backoff={value!r}: give seconds (backoff=0.5), a timedelta, exponential(), or a "
            "function (exception, attempt) -> seconds | None."
        )
    if not 0 <= seconds <= LONGEST_WAIT:
        raise OptionError(f"backoff={value!r}: give 0 to {LONGEST_WAIT:.0f} seconds (ten years).")


def _check_function(function: Callable[..., object]) -> None:
    if inspect.iscoroutinefunction(function):
        raise OptionError("backoff is an async function: give a plain one, it has only to compute.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins have no signature
        return
    try:
        signature.bind(Exception(), 1)
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise OptionError(
            f"backoff={name}: it is called with (exception, attempt), and can't be: {error}."
        ) from None


def _check_types(option: str, value: object) -> None:
    if isinstance(value, type) and issubclass(value, BaseException):
        raise OptionError(
            f"{option}={value.__name__}: give a tuple of exception types, {option}="
            f"({value.__name__},)."
        )
    if not isinstance(value, tuple):
        raise OptionError(f"{option}={value!r}: give a tuple of exception types.")
    for kind in value:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise OptionError(f"{option}: {kind!r} is not an exception type.")


def _seconds(value: object) -> float | None:
    """A duration as seconds, at most LONGEST_WAIT or infinite; None for anything else."""
    try:
        if isinstance(value, timedelta):
            return timedelta.total_seconds(value)
        if isinstance(value, bool | str | bytes):
            return None
        try:
            seconds = float(value)  # type: ignore[arg-type]
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except BaseException:  # the methods of a value of the task may do anything
        return None
    return None if math.isnan(seconds) else seconds


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
