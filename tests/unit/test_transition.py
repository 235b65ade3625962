"""What follows an attempt: every combination, against the rules written once more in words."""

from __future__ import annotations

import itertools

import pytest

from flask_offload.errors import InvalidTransition
from flask_offload.jobs.attempt import Ending, Outcome
from flask_offload.jobs.job import Error, JobStatus
from flask_offload.jobs.transition import MAX_CRASHES, check_cancel, check_retry, follow

DIED = Error("WorkerDied", "the process died")


def ended(ending: Ending, error: Error | None = None, after: float = 0.0) -> Outcome:
    return Outcome(1, 1, ending, 10.0, 11.0, error=error, after=after)


@pytest.mark.parametrize("ending", [Ending.SUCCESSFUL, Ending.FAILED, Ending.CANCELLED])
@pytest.mark.parametrize("cancel_requested", [False, True])
def test_an_ending_that_ends_the_job_ends_it(ending: Ending, cancel_requested: bool) -> None:
    what = follow(ended(ending, DIED), on_crash="fail", cancel_requested=cancel_requested)
    assert (what.status, what.error) == (JobStatus(ending), DIED)
    assert what.failures == (ending is Ending.FAILED)


@pytest.mark.parametrize("ending", [Ending.RETRY, Ending.INTERRUPTED, Ending.CRASHED])
def test_the_others_make_it_ready_unless_it_was_asked_to_stop(ending: Ending) -> None:
    again = follow(ended(ending, DIED, after=7.0))
    assert (again.status, again.after) == (JobStatus.READY, 7.0)
    stopped = follow(ended(ending, DIED, after=7.0), cancel_requested=True)
    assert (stopped.status, stopped.after, stopped.error) == (JobStatus.CANCELLED, 0.0, DIED)


def test_the_last_crash_is_quarantined_and_the_one_after_it_ends_the_job() -> None:
    for crashes in range(MAX_CRASHES):
        what = follow(ended(Ending.CRASHED, DIED), crashes=crashes)
        assert what.crashes == crashes + 1
        assert what.is_quarantined is (what.crashes == MAX_CRASHES - 1)
    assert what.status is JobStatus.FAILED
    assert what.error is not None
    assert f"crash {MAX_CRASHES} of {MAX_CRASHES}" in what.error.message


def test_a_job_that_may_not_run_twice_fails_unless_it_stopped_at_a_checkpoint() -> None:
    crashed = follow(ended(Ending.CRASHED, DIED), on_crash="fail")
    cut_short = follow(ended(Ending.INTERRUPTED, DIED), on_crash="fail")
    at_checkpoint = follow(ended(Ending.INTERRUPTED), on_crash="fail")
    assert [what.status for what in (crashed, cut_short, at_checkpoint)] == [
        JobStatus.FAILED,
        JobStatus.FAILED,
        JobStatus.READY,
    ]
    assert crashed.error is not None
    assert "on_crash='fail'" in crashed.error.message
    assert cut_short.error == DIED


def test_only_what_is_finished_can_be_retried_and_only_the_rest_cancelled() -> None:
    for status, check in itertools.product(JobStatus, (check_cancel, check_retry)):
        may = {check_cancel: not status.is_finished, check_retry: status in ("FAILED", "CANCELLED")}
        if may[check]:
            check(status, "j")
        else:
            with pytest.raises(InvalidTransition, match="job j can't be"):
                check(status, "j")
