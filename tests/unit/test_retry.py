from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_offload.errors import (
    ConfigError,
    Discard,
    JobCancelled,
    JobTimeout,
    OptionError,
    Retry,
)
from flask_offload.tasks.retry import (
    EXPLICIT_ATTEMPTS,
    LONGEST_WAIT,
    Again,
    Discarded,
    GiveUp,
    RetryPolicy,
    decide,
    exponential,
)


def highest(low: float, high: float) -> float:
    return high


# --- who is retried ----------------------------------------------------------------------------


def test_an_exception_is_not_retried_by_default() -> None:
    assert decide(RetryPolicy(), ValueError("no"), 1) == GiveUp("attempt 1 of 1 was the last")


def test_max_attempts_counts_the_first_run() -> None:
    policy = RetryPolicy(max_attempts=3, backoff=0.5)
    answers = [decide(policy, ValueError(), failures) for failures in (1, 2, 3)]
    assert answers == [Again(0.5), Again(0.5), GiveUp("attempt 3 of 3 was the last")]


def test_more_failures_than_attempts_give_up() -> None:
    # max_attempts may be lowered in a new release while jobs are waiting for their fifth attempt
    assert isinstance(decide(RetryPolicy(max_attempts=3), ValueError(), 5), GiveUp)


def test_retry_on_narrows_and_takes_subclasses() -> None:
    policy = RetryPolicy(max_attempts=3, backoff=1, retry_on=(OSError,))
    assert decide(policy, ConnectionResetError(), 1) == Again(1.0)
    assert decide(policy, ValueError(), 1) == GiveUp("ValueError is not in retry_on")


@pytest.mark.parametrize("exception", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_no_exception_proper_is_not_retried(exception: BaseException) -> None:
    assert isinstance(decide(RetryPolicy(max_attempts=3), exception, 1), GiveUp)


def test_discard_on_wins_over_retry_on() -> None:
    policy = RetryPolicy(max_attempts=3, discard_on=(LookupError,))
    assert decide(policy, KeyError("user 7"), 1) == Discarded("KeyError: 'user 7'")
    assert decide(policy, IndexError(), 1) == Discarded("IndexError")
    assert isinstance(decide(policy, ValueError(), 1), Again)


def test_an_exception_that_cannot_be_printed_is_still_decided() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    policy = RetryPolicy(discard_on=(Broken,))
    assert decide(policy, Broken(), 1) == Discarded("Broken: (its __str__ raised RuntimeError)")


def test_discard_needs_no_policy() -> None:
    policy = RetryPolicy(max_attempts=9)
    assert decide(policy, Discard("user deleted"), 1) == Discarded("user deleted")


def test_a_cancelled_job_is_never_retried() -> None:
    policy = RetryPolicy(max_attempts=9, retry_on=(BaseException,))
    answer = decide(policy, JobCancelled(), 1)
    assert isinstance(answer, Discarded)
    assert answer.reason.startswith("JobCancelled: The job was asked to stop")


def test_a_timeout_is_retried_like_any_exception() -> None:
    assert isinstance(decide(RetryPolicy(), JobTimeout(), 1), GiveUp)
    assert decide(RetryPolicy(max_attempts=2, backoff=3), JobTimeout(), 1) == Again(3.0)
    assert isinstance(decide(RetryPolicy(2, discard_on=(JobTimeout,)), JobTimeout(), 1), Discarded)


# --- raise Retry -------------------------------------------------------------------------------


def test_retry_works_without_any_option_and_is_bounded() -> None:
    policy = RetryPolicy(backoff=2)
    assert decide(policy, Retry(after=60), 1) == Again(60.0)
    assert decide(policy, Retry(), 1) == Again(2.0)
    assert decide(policy, Retry(), EXPLICIT_ATTEMPTS - 1) == Again(2.0)
    assert isinstance(decide(policy, Retry(), EXPLICIT_ATTEMPTS), GiveUp)


def test_retry_counts_against_max_attempts_but_not_against_retry_on() -> None:
    policy = RetryPolicy(max_attempts=3, retry_on=(OSError,))
    assert decide(policy, Retry(after=0), 2) == Again(0.0)
    assert decide(policy, Retry(after=0), 3) == GiveUp("attempt 3 of 3 was the last")


@pytest.mark.parametrize(
    ("after", "wait"), [(-5, 0.0), (float("inf"), LONGEST_WAIT), (1e300, LONGEST_WAIT)]
)
def test_the_wait_stays_within_bounds(after: float, wait: float) -> None:
    assert decide(RetryPolicy(), Retry(after=after), 1) == Again(wait)


@pytest.mark.parametrize("after", ["soon", float("nan"), True])
def test_a_retry_with_nonsense_fails_the_job_and_says_so(after: Any) -> None:
    answer = decide(RetryPolicy(max_attempts=3), Retry(after=after), 1)
    assert answer == GiveUp(f"Retry(after=…) gave {after!r} instead of a number of seconds")


# --- backoff -----------------------------------------------------------------------------------


def test_exponential_without_jitter_by_hand() -> None:
    policy = RetryPolicy(7, exponential(first=2, factor=3, cap=100, jitter=False))
    waits = [decide(policy, ValueError(), failures) for failures in range(1, 7)]
    assert waits == [Again(2.0), Again(6.0), Again(18.0), Again(54.0), Again(100.0), Again(100.0)]


def test_full_jitter_draws_between_zero_and_the_ceiling() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.25

    policy = RetryPolicy(9, exponential(first=0.5, cap=3))
    assert decide(policy, ValueError(), 3, uniform=uniform) == Again(0.25)
    assert decide(policy, ValueError(), 8, uniform=uniform) == Again(0.25)
    assert drawn == [(0.0, 2.0), (0.0, 3)]


def test_jitter_is_random_by_default() -> None:
    policy = RetryPolicy(2, exponential(first=100, cap=100))
    waits = {answer.after for answer in _agains(policy, 50)}
    assert len(waits) > 1
    assert all(0 <= wait <= 100 for wait in waits)


def _agains(policy: RetryPolicy, times: int) -> list[Again]:
    answers = [decide(policy, ValueError(), 1) for _ in range(times)]
    return [answer for answer in answers if isinstance(answer, Again)]


@settings(deadline=None)
@given(
    first=st.floats(0.001, 1e6),
    factor=st.floats(1, 1e6),
    cap=st.floats(0.001, 1e9),
    failures=st.integers(1, 100_000),
)
def test_waits_grow_up_to_the_cap(first: float, factor: float, cap: float, failures: int) -> None:
    cap = max(first, cap)
    backoff = exponential(first, factor, cap)
    assert first <= backoff.ceiling(failures) <= backoff.ceiling(failures + 1) <= cap
    wait = backoff.wait(failures, lambda low, high: low + (high - low) * 0.999)
    assert 0 <= wait <= backoff.ceiling(failures)


def test_waits_may_be_timedeltas() -> None:
    minute = timedelta(minutes=1)
    assert decide(RetryPolicy(2, minute), ValueError(), 1) == Again(60.0)
    assert decide(RetryPolicy(2, lambda e, attempt: attempt * minute), OSError(), 1) == Again(60.0)


def test_a_function_is_given_the_exception_and_the_attempt() -> None:
    class Busy(Exception):
        retry_after = 7

    def backoff(exception: BaseException, attempt: int) -> float | None:
        if attempt == 2:
            return None
        return float(getattr(exception, "retry_after", 1))

    policy = RetryPolicy(9, backoff)
    assert decide(policy, Busy(), 1) == Again(7.0)
    assert decide(policy, ValueError(), 3) == Again(1.0)
    assert decide(policy, Busy(), 2) == GiveUp("the backoff function returned None")


def test_a_function_is_not_asked_when_no_attempt_is_left() -> None:
    def backoff(exception: BaseException, attempt: int) -> float:
        raise AssertionError("asked")

    assert decide(RetryPolicy(2, backoff), ValueError(), 2) == GiveUp("attempt 2 of 2 was the last")


def test_a_bug_in_the_function_fails_the_job_and_says_so() -> None:
    policy = RetryPolicy(3, lambda exception, attempt: 1 / (attempt - 1))
    answer = decide(policy, ValueError(), 1)
    assert answer == GiveUp("the backoff function raised ZeroDivisionError: division by zero")


@pytest.mark.parametrize("answer", ["1", [], float("nan"), False])
def test_a_function_that_answers_nonsense_fails_the_job_and_says_so(answer: Any) -> None:
    given_up = decide(RetryPolicy(3, lambda exception, attempt: answer), ValueError(), 1)
    assert given_up == GiveUp(
        f"the backoff function gave {answer!r} instead of a number of seconds"
    )


@settings(deadline=None)
@given(
    policy=st.builds(RetryPolicy, st.integers(1, 50), st.floats(0, 1e6)),
    exception=st.sampled_from([ValueError(), Retry(), Retry(after=3), JobTimeout()]),
    failures=st.integers(1, 60),
)
def test_no_job_runs_for_ever(policy: RetryPolicy, exception: Exception, failures: int) -> None:
    again = isinstance(decide(policy, exception, failures), Again)
    assert not again or failures < max(policy.max_attempts, EXPLICIT_ATTEMPTS)


# --- checks at declaration ---------------------------------------------------------------------


async def _async_backoff(exception: BaseException, attempt: int) -> float:
    return 1.0


Options = dict[str, Any]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "the job would never run"),
        ({"max_attempts": -1}, "the job would never run"),
        ({"max_attempts": None}, "give a whole number"),
        ({"max_attempts": True}, "give a whole number"),
        ({"max_attempts": 2.0}, "give a whole number"),
        ({"backoff": -1}, "give 0 to"),
        ({"backoff": timedelta(seconds=-1)}, "give 0 to"),
        ({"backoff": float("nan")}, "give seconds"),
        ({"backoff": float("inf")}, "give 0 to"),
        ({"backoff": "1s"}, "give seconds"),
        ({"backoff": None}, "give seconds"),
        ({"backoff": True}, "give seconds"),
        ({"backoff": lambda exception: 1}, r"called with \(exception, attempt\)"),
        ({"backoff": _async_backoff}, "async function"),
        ({"retry_on": OSError}, r"retry_on=\(OSError,\)"),
        ({"retry_on": [OSError]}, "give a tuple"),
        ({"retry_on": (OSError, "ValueError")}, "'ValueError' is not an exception type"),
        ({"discard_on": (int,)}, "discard_on: <class 'int'> is not"),
        ({"retry_on": (OSError,), "discard_on": (OSError,)}, "keep it in one"),
    ],
)
def test_a_bad_policy_is_refused_where_it_is_declared(options: Options, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        RetryPolicy(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0}, "write backoff=0"),
        ({"first": -1}, "longer than 0 seconds"),
        ({"factor": 0.5}, "factor of 1 or more"),
        ({"first": 10, "cap": 5}, "cap is below"),
        ({"cap": float("inf")}, r"exponential\(cap=inf\): give a number"),
        ({"first": "1"}, "give a number"),
    ],
)
def test_a_bad_exponential_is_refused(options: Options, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        exponential(**options)


def test_the_error_belongs_to_the_family_of_set_up_errors() -> None:
    with pytest.raises(ConfigError):
        RetryPolicy(max_attempts=0)


@pytest.mark.parametrize("function", [max, lambda *args: 1.0, lambda e, attempt=0: 1.0])
def test_any_function_of_two_arguments_will_do(function: Callable[..., Any]) -> None:
    RetryPolicy(backoff=function)


def test_policies_are_values() -> None:
    assert RetryPolicy() == RetryPolicy()
    assert len({RetryPolicy(), RetryPolicy(), RetryPolicy(2)}) == 2
    assert decide(RetryPolicy(2), ValueError(), 1, uniform=highest) == Again(1.0)
