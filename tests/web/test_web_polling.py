"""When to ask again, how long it may take, how often one may ask: pure functions."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_offload.engines.base import Engine
from flask_offload.jobs.job import Attempt, Job, JobRecord, JobStatus
from flask_offload.payload.calls import Codecs
from flask_offload.web.pages import duration
from flask_offload.web.polling import (
    BURST_SECONDS,
    FASTEST,
    LONGEST_SLEEP,
    MIN_FRACTION,
    MIN_SECONDS,
    SLOWEST,
    PollLimiter,
    remaining_seconds,
    retry_after,
)

NOW = 1_800_000_000.0


def job_with(status: JobStatus = JobStatus.RUNNING, attempts: int = 1, **changes: Any) -> Job:
    runs = [Attempt(number + 1, "w", None, None, None) for number in range(attempts)]
    record = JobRecord(
        id="id",
        task="t",
        queue_name="default",
        priority=0,
        status=status,
        enqueued_at=NOW - 100,
        attempts=runs,
    )
    for name, value in changes.items():
        setattr(record, name, value)
    return Job(record, cast(Engine, None), Codecs())


def test_half_done_in_ten_seconds_takes_ten_more() -> None:
    job = job_with(started_at=NOW - 10, done=50, total=100)
    assert remaining_seconds(job, NOW) == pytest.approx(10)


@pytest.mark.parametrize(
    "job",
    [
        job_with(started_at=NOW - 10),
        job_with(started_at=NOW - 10, done=50),
        job_with(started_at=NOW - 10, done=100, total=100),
        job_with(started_at=NOW - 10, done=1, total=100),
        job_with(started_at=NOW - MIN_SECONDS + 0.1, done=50, total=100),
        job_with(started_at=NOW - 10, done=50, total=100, attempts=2),
        job_with(started_at=NOW - 10, done=50, total=100, cancel_requested=True),
        job_with(JobStatus.READY, attempts=0, done=50, total=100),
        job_with(JobStatus.SUCCESSFUL, started_at=NOW - 10, done=50, total=100),
    ],
    ids=["silent", "countless", "full", "1%", "young", "retried", "stopping", "ready", "done"],
)
def test_an_unknown_remaining_time_is_none(job: Job) -> None:
    assert remaining_seconds(job, NOW) is None


@given(
    elapsed=st.floats(MIN_SECONDS, 1e6),
    fraction=st.floats(MIN_FRACTION, 0.999),
)
def test_at_an_even_pace_the_estimate_is_right(elapsed: float, fraction: float) -> None:
    job = job_with(started_at=NOW - elapsed, done=fraction, total=1)
    found = remaining_seconds(job, NOW)
    assert found is not None
    assert found + elapsed == pytest.approx(elapsed / fraction, rel=1e-3)


def test_a_silent_job_is_asked_a_tenth_of_its_age_later() -> None:
    assert retry_after(job_with(started_at=NOW - 1, enqueued_at=NOW - 1), NOW) == FASTEST
    assert retry_after(job_with(started_at=NOW - 40, enqueued_at=NOW - 40), NOW) == 4
    assert retry_after(job_with(started_at=NOW - 1e6, enqueued_at=NOW - 1e6), NOW) == SLOWEST
    assert retry_after(job_with(JobStatus.READY, 0, enqueued_at=NOW - 40), NOW) == 4


def test_a_telling_job_is_asked_for_each_hundredth() -> None:
    assert retry_after(job_with(started_at=NOW - 300, done=50, total=100), NOW) == 6
    assert retry_after(job_with(started_at=NOW - 30, done=50, total=100), NOW) == FASTEST


def test_no_pause_ends_after_the_expected_end() -> None:
    job = job_with(started_at=NOW - 600, done=99.5, total=100)
    assert retry_after(job, NOW) <= 4


def test_a_job_with_a_time_is_asked_for_at_its_time() -> None:
    soon = job_with(JobStatus.READY, 0, run_after=NOW + 7.2)
    later = job_with(JobStatus.READY, 0, run_after=NOW + 86_400)
    due = job_with(JobStatus.READY, 0, run_after=NOW - 1, enqueued_at=NOW - 1)
    assert (retry_after(soon, NOW), retry_after(later, NOW)) == (8, LONGEST_SLEEP)
    assert retry_after(due, NOW) == FASTEST


@given(age=st.floats(-10, 1e9), started=st.floats(-10, 1e9), done=st.none() | st.floats(0, 1e6))
def test_retry_after_is_always_whole_seconds_in_bounds(
    age: float, started: float, done: float | None
) -> None:
    """Also when a clock was set back."""
    job = job_with(enqueued_at=NOW - age, started_at=NOW - started, done=done, total=1e6)
    found = retry_after(job, NOW)
    assert isinstance(found, int)
    assert FASTEST <= found <= SLOWEST


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than 10 s"),
        (9.9, "less than 10 s"),
        (44, "about 40 s"),
        (91, "about 2 min"),
        (3000, "about 50 min"),
        (7300, "about 2 h"),
    ],
)
def test_durations_are_rough_on_purpose(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- limit -------------------------------------------------------------------------------------


def test_a_steady_client_within_the_rate_is_never_refused() -> None:
    limiter = PollLimiter()
    assert not any(limiter.check("a", 10, NOW + number / 10) for number in range(1000))


def test_a_client_in_a_tight_loop_gets_the_rate_and_no_more() -> None:
    limiter = PollLimiter()
    allowed = sum(not limiter.check("a", 10, NOW + number / 1000) for number in range(10_000))
    assert allowed == pytest.approx(10 * (10 + BURST_SECONDS), abs=2)


def test_a_client_that_waits_as_asked_is_served() -> None:
    limiter = PollLimiter()
    now = NOW
    while not (wait := limiter.check("a", 0.5, now)):
        pass
    assert limiter.check("a", 0.5, now + wait) == 0


def test_clients_do_not_feel_each_other() -> None:
    limiter = PollLimiter()
    while not limiter.check("a", 10, NOW):
        pass
    assert limiter.check("b", 10, NOW) == 0


def test_no_limit_keeps_nothing() -> None:
    limiter = PollLimiter()
    assert not any(limiter.check("a", 0, NOW) for _ in range(1000))
    assert len(limiter) == 0


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    limiter = PollLimiter(max_keys=100)
    while not limiter.check("loud", 10, NOW):
        pass
    for number in range(99):
        limiter.check(number, 10, NOW)
    assert limiter.check("loud", 10, NOW) > 0
    for number in range(100, 100_000):
        limiter.check(number, 10, NOW)
    assert len(limiter) == 100
    assert limiter.check("loud", 10, NOW) == 0


def test_between_two_reports_the_time_counts_down() -> None:
    def left(seconds: float, done: int) -> float | None:
        job = job_with(id="steps of 5 s", started_at=NOW, done=done, total=6)
        return remaining_seconds(job, NOW + seconds)

    assert [left(second, 1) for second in (5, 6, 9)] == pytest.approx([25, 24, 21])
    assert [left(second, 2) for second in (10, 14)] == pytest.approx([20, 16])
    assert left(29, 2) == pytest.approx(1)
    assert left(31, 2) is None  # it should be over: nothing is known any more
    assert left(32, 5) == pytest.approx(32 / 5)
