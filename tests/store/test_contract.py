"""What every engine promises. A case that an engine does not promise is skipped by its flag."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw
import psycopg
import pytest
from werkzeug.datastructures import FileStorage

from engine_contract import STAGES, Stage
from flask_offload import (
    InvalidTransition,
    Job,
    JobFailed,
    JobNotFound,
    JobStatus,
    JobTimeout,
    PayloadError,
    UnsupportedByEngine,
    WaitTimeout,
)
from flask_offload.engines.base import JobQuery
from flask_offload.errors import EngineUnavailable, FileTooLarge
from support import kill9, wait_until


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(stage, id=name, marks=[] if name == "inline" else pytest.mark.processes)
        for name, stage in STAGES.items()
    ],
)
def kind(request: pytest.FixtureRequest) -> type[Stage]:
    """Each engine in turn. Servers start here: a test must not leave processes behind."""
    chosen: type[Stage] = request.param
    chosen.prepare()
    return chosen


@pytest.fixture
def stage(kind: type[Stage], tmp_path: Path) -> Iterator[Stage]:
    """An engine, in an app context."""
    made = kind(tmp_path)
    with made.app.app_context():
        yield made
    made.close()


# --- running -----------------------------------------------------------------------------------


def test_a_job_runs_and_keeps_its_result_and_times(stage: Stage) -> None:
    before = datetime.now(UTC)
    job = stage.task("echo").enqueue({"answer": [1, 2.5, None, True, "ü"]})
    assert job.task == "contract_app.echo"
    (job,) = stage.done(job)
    assert (job.status, job.is_finished) == (JobStatus.SUCCESSFUL, True)
    assert job.return_value == {"answer": [1, 2.5, None, True, "ü"]}
    assert job.result() == job.return_value
    assert job.error is None
    (attempt,) = job.attempts
    assert (attempt.number, attempt.outcome, attempt.error) == (1, "SUCCESSFUL", None)
    assert job.started_at
    assert job.finished_at
    assert before <= job.enqueued_at <= job.started_at <= job.finished_at <= datetime.now(UTC)


def test_what_a_job_logs_is_kept_with_its_attempts(stage: Stage) -> None:
    job = stage.task("logs").enqueue(2, fails=True)
    silent = stage.task("echo").enqueue(1)
    if not stage.flags.logs:
        with pytest.raises(UnsupportedByEngine, match="logs"):
            _ = job.log
        return
    job, silent = stage.done(job, silent)
    assert silent.log == []
    assert [(line.attempt, line.number) for line in job.log] == [
        (attempt, number) for attempt in (1, 2) for number in (1, 2, 3)
    ]
    one, two, last = job.log[:3]
    assert (one.level, one.logger, one.message) == ("WARNING", "contract", "line 1")
    assert two.message == "line 2"
    first, *trace = last.message.split("\n")
    assert first == "odd \\0 \x1b[31m"
    assert trace[-1] == "ValueError: caught"
    assert job.enqueued_at <= one.at <= two.at <= last.at <= datetime.now(UTC)


def test_of_many_lines_the_last_are_kept(stage: Stage) -> None:
    stage.needs("logs")
    (job,) = stage.done(stage.task("logs").enqueue(1000))
    assert [line.number for line in job.log] == list(range(802, 1002))


@pytest.mark.parametrize(
    "value",
    [
        datetime(2027, 1, 1, 9, 30, tzinfo=UTC),
        date(2027, 2, 28),
        timedelta(hours=1.5),
        Decimal("1.10"),
        UUID(int=7),
        b"\0\xff",
        (1, ("a", None)),
        {1, 2},
        {1: "a", "$": "b"},
        "x" * 100_000,
        2**70,
    ],
    ids=lambda value: type(value).__name__,
)
def test_arguments_and_results_arrive_as_they_were(stage: Stage, value: object) -> None:
    (job,) = stage.done(stage.task("echo").enqueue(value))
    assert job.return_value == value
    assert type(job.return_value) is type(value)


def test_later_changes_of_an_argument_are_not_seen(stage: Stage) -> None:
    values = [1]
    job = stage.task("echo").enqueue(values)
    values.append(2)
    (job,) = stage.done(job)
    assert job.return_value == [1]
    job.return_value.append(3)
    assert job.refresh().return_value == [1]


def test_a_wrong_call_is_refused_before_anything_is_enqueued(stage: Stage) -> None:
    for wrong in [(), (1, 2), (7,)]:
        with pytest.raises(PayloadError, match="note"):
            stage.task("note").enqueue(*wrong)
    with pytest.raises(PayloadError, match="echo"):
        stage.task("echo").enqueue(object())
    with pytest.raises(PayloadError, match="MAX_PAYLOAD"):
        stage.task("echo").enqueue("x" * 2_000_000)
    stage.work()
    assert stage.journal() == []
    if stage.flags.lists:
        assert stage.jobs() == []


def test_the_job_has_the_app_and_nothing_of_the_request(stage: Stage) -> None:
    owned = stage.task("surroundings").using(owner="user:7", queue_name="other").enqueue()
    answer = stage.app.test_client().get("/enqueue/surroundings")
    job, owned = stage.done(stage.job(answer.text), owned)
    expected = {"app": "contract_app", "request": False, "g": None, "variable": "nothing"}
    assert job.return_value == {
        **expected,
        "tenant": "blue",
        "id": job.id,
        "attempt": 1,
        "owner": None,
        "queue": "default",
    }
    assert owned.return_value == {
        **expected,
        "tenant": None,
        "id": owned.id,
        "attempt": 1,
        "owner": "user:7",
        "queue": "other",
    }
    assert (owned.owner, owned.queue_name) == ("user:7", "other")


def test_an_async_task_runs(stage: Stage) -> None:
    (job,) = stage.done(stage.task("nap").enqueue("slept"))
    assert job.return_value == "slept in contract_app, contract_app.nap"


def test_an_async_task_can_be_enqueued_where_an_event_loop_runs(stage: Stage) -> None:
    async def view() -> str:
        return stage.task("nap").enqueue("slept").id

    (job,) = stage.done(stage.job(asyncio.run(view())))
    assert job.status is JobStatus.SUCCESSFUL, job.error


def test_progress_is_kept(stage: Stage) -> None:
    (job,) = stage.done(stage.task("steps").enqueue(4))
    assert job.return_value == 6
    assert job.progress is not None
    assert (job.progress.done, job.progress.total) == (4, 4)
    assert (job.progress.fraction, job.progress.message) == (1.0, "counting")


def test_a_job_may_enqueue_another(stage: Stage) -> None:
    stage.done(stage.task("chain").enqueue(2))
    assert stage.journal() == ["link 2", "link 1", "link 0"]


def test_many_are_enqueued_in_order(stage: Stage) -> None:
    note = stage.task("note")
    texts = [f"{number}" for number in range(20)]
    if stage.flags.transactional_batches:
        jobs = stage.offload.enqueue_many(note.call(text) for text in texts)
    else:
        jobs = [note.enqueue(text) for text in texts]
    assert len({job.id for job in jobs}) == 20
    stage.work(threads=1)
    assert {job.refresh().status for job in jobs} == {JobStatus.SUCCESSFUL}
    assert sorted(stage.journal(), key=int) == texts
    assert stage.offload.enqueue_many([]) == []


def test_an_unknown_job_is_not_found(stage: Stage) -> None:
    with pytest.raises(JobNotFound):
        stage.offload.get_job("f" * 44)


def test_waiting_for_a_job_ends_in_time_and_returns_its_result(stage: Stage) -> None:
    stage.needs("deferred")
    later = stage.task("note").using(run_after=timedelta(hours=1)).enqueue("x")
    with pytest.raises(WaitTimeout) as info:
        later.wait(timeout=0.05)
    assert isinstance(info.value, JobTimeout)
    assert isinstance(info.value, TimeoutError)
    done, failed = stage.done(stage.task("echo").enqueue(1), stage.task("fail").enqueue("why"))
    assert done.wait(timeout=1).result() == 1
    with pytest.raises(JobFailed, match="ValueError: why"):
        failed.result()


# --- failing -----------------------------------------------------------------------------------


def test_a_failure_keeps_type_message_and_traceback(stage: Stage) -> None:
    (job,) = stage.done(stage.task("fail").enqueue("no such address"))
    assert job.status is JobStatus.FAILED
    assert job.return_value is None
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("ValueError", "no such address")
    assert "raise ValueError(text)\nValueError: no such address" in (job.error.traceback or "")
    (attempt,) = job.attempts
    assert (attempt.outcome, attempt.error) == ("FAILED", job.error)


def test_a_task_is_tried_again_and_every_attempt_is_kept(stage: Stage) -> None:
    (job,) = stage.done(stage.task("flaky").enqueue(2))
    assert (job.status, job.return_value, job.error) == (JobStatus.SUCCESSFUL, 3, None)
    assert [attempt.outcome for attempt in job.attempts] == ["RETRY", "RETRY", "SUCCESSFUL"]
    assert [attempt.number for attempt in job.attempts] == [1, 2, 3]
    assert [attempt.error.message for attempt in job.attempts if attempt.error] == [
        "attempt 1",
        "attempt 2",
    ]


def test_a_task_fails_when_its_attempts_are_used_up(stage: Stage) -> None:
    (job,) = stage.done(stage.task("flaky").enqueue(5))
    assert job.status is JobStatus.FAILED
    assert [attempt.outcome for attempt in job.attempts] == ["RETRY", "RETRY", "FAILED"]
    assert stage.journal() == ["attempt 1", "attempt 2", "attempt 3"]


def test_the_type_of_an_exception_decides(stage: Stage) -> None:
    kinds = ["retried", "fatal", "hopeless"]
    jobs = stage.done(*(stage.task("picky").enqueue(kind) for kind in kinds))
    assert [len(job.attempts) for job in jobs] == [2, 1, 1]
    assert [job.status for job in jobs] == [
        JobStatus.FAILED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    ]


def test_a_task_may_ask_for_another_attempt_or_give_up(stage: Stage) -> None:
    again, dropped = stage.done(stage.task("ask_again").enqueue(), stage.task("give_up").enqueue())
    assert (again.status, again.return_value) == (JobStatus.SUCCESSFUL, 2)
    assert dropped.status is JobStatus.CANCELLED
    assert dropped.error is not None
    assert (dropped.error.type, dropped.error.message) == ("Discard", "not wanted")


def test_whatever_a_task_raises_ends_its_job_alone(stage: Stage) -> None:
    left, lost, good = stage.done(
        stage.task("leave").enqueue(),
        stage.task("uncarriable").enqueue(),
        stage.task("echo").enqueue(1),
    )
    assert left.status is lost.status is JobStatus.FAILED
    assert left.error is not None
    assert lost.error is not None
    assert (left.error.type, lost.error.type) == ("SystemExit", "PayloadError")
    assert good.return_value == 1


def test_a_timeout_is_raised_at_the_next_checkpoint(stage: Stage) -> None:
    listening, sleeping = stage.done(
        stage.task("too_long").enqueue(), stage.task("too_long_async").enqueue()
    )
    for job in (listening, sleeping):
        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert job.error.type == "JobTimeout"
    assert stage.journal() == ["cleaned up"]


# --- what has a flag ---------------------------------------------------------------------------


def test_deferred_jobs_wait_for_their_time(stage: Stage) -> None:
    stage.needs("deferred")
    note = stage.task("note")
    late = note.using(run_after=datetime.now(UTC) + timedelta(hours=1)).enqueue("late")
    past = note.using(run_after=datetime(2020, 1, 1, tzinfo=UTC)).enqueue("past")
    stage.done(late, past)
    assert [job.status for job in (late, past)] == [JobStatus.READY, JobStatus.SUCCESSFUL]
    # enqueued only now: a worker may take its time to start, and would find it due
    soon = note.using(run_after=timedelta(seconds=1)).enqueue("soon")
    before = stage.job(soon.id)
    assert before.waiting_for == "its time"
    due = soon.run_after
    assert due is not None
    assert timedelta(seconds=0.9) < due - soon.enqueued_at < timedelta(seconds=1.1)
    wait_until(lambda: datetime.now(UTC) >= due)
    stage.done(soon, late)
    assert before.status is JobStatus.READY, "a job stands as it was when last read"
    assert before.attempts == []
    assert sorted(stage.journal()) == ["past", "soon"]
    assert soon.started_at is not None
    assert soon.started_at >= due
    assert late.status is JobStatus.READY


def test_priorities_come_first_then_age(stage: Stage) -> None:
    stage.needs("priorities")
    note = stage.task("note")
    given = [("low", -5), ("a", 0), ("urgent", 100), ("b", 0), ("high", 5), ("c", 0)]
    stage.offload.enqueue_many(note.using(priority=level).call(text) for text, level in given)
    stage.work(threads=1)
    assert stage.journal() == ["urgent", "high", "a", "b", "c", "low"]


def test_jobs_are_listed_and_counted(stage: Stage) -> None:
    stage.needs("lists")
    echo, fail = stage.task("echo"), stage.task("fail")
    one = echo.using(queue_name="mail", owner="user:7").enqueue(1)
    two = echo.enqueue(2)
    bad = fail.using(queue_name="mail").enqueue("x")
    stage.work()
    assert stage.jobs() == [bad.id, two.id, one.id]
    assert stage.jobs(limit=1) == [bad.id]
    assert stage.jobs(limit=1, offset=1) == [two.id]
    assert stage.jobs(status=JobStatus.FAILED) == [bad.id]
    assert stage.jobs(task="contract_app.echo") == [two.id, one.id]
    assert stage.jobs(queue_name="mail") == [bad.id, one.id]
    assert stage.jobs(owner="user:7") == [one.id]
    assert stage.jobs(task="contract_app.echo", queue_name="mail") == [one.id]
    assert stage.engine.count() == {
        JobStatus.READY: 0,
        JobStatus.RUNNING: 0,
        JobStatus.SUCCESSFUL: 2,
        JobStatus.FAILED: 1,
        JobStatus.CANCELLED: 0,
    }
    (listed,) = stage.engine.list(JobQuery(queue_name="mail", status=JobStatus.SUCCESSFUL))
    assert listed.result is None, "results can be large: they are read one by one"
    assert [attempt.outcome for attempt in listed.attempts] == ["SUCCESSFUL"]
    assert {queue.name for queue in stage.engine.queues()} == {"mail", "default"}
    assert stage.engine.arguments(two.id) == "[[2],{}]"
    assert stage.engine.ids(two.id[:-1]) == [two.id]
    assert len(stage.engine.ids(two.id[:2])) == 2
    assert stage.engine.ids("zz") == []
    stage.engine.clear()
    assert stage.jobs() == []


def test_a_waiting_job_can_be_cancelled_and_never_runs(stage: Stage) -> None:
    stage.needs("deferred")
    stage.needs("cancels_waiting")
    job = stage.task("note").using(run_after=timedelta(hours=1)).enqueue("never")
    assert job.cancel().status is JobStatus.CANCELLED
    assert job.finished_at is not None
    with pytest.raises(InvalidTransition, match="finished"):
        job.cancel()
    (job,) = stage.done(job)
    assert (job.status, stage.journal()) == (JobStatus.CANCELLED, [])


def test_a_finished_job_can_not_be_cancelled(stage: Stage) -> None:
    stage.needs("cancels_waiting")
    (job,) = stage.done(stage.task("echo").enqueue(1))
    with pytest.raises(InvalidTransition, match="finished"):
        job.cancel()
    with pytest.raises(JobNotFound):
        stage.engine.cancel("f" * 44)


def test_a_failed_job_can_be_run_again_by_hand(stage: Stage) -> None:
    stage.needs("retries")
    failed, good = stage.done(stage.task("flaky").enqueue(3), stage.task("echo").enqueue(1))
    assert failed.status is JobStatus.FAILED
    (again,) = stage.done(failed.retry())
    assert (again.status, again.return_value) == (JobStatus.SUCCESSFUL, 4)
    assert [attempt.outcome for attempt in again.attempts] == [
        "RETRY",
        "RETRY",
        "FAILED",
        "SUCCESSFUL",
    ]
    with pytest.raises(InvalidTransition, match="SUCCESSFUL"):
        good.retry()
    with pytest.raises(JobNotFound):
        stage.engine.retry("f" * 44)


def test_a_job_that_is_run_again_by_hand_does_not_wait_for_its_time(stage: Stage) -> None:
    stage.needs("deferred")
    stage.needs("cancels_waiting")
    stage.needs("retries")
    job = stage.task("note").using(run_after=timedelta(hours=1)).enqueue("now")
    assert job.cancel().finished_at is not None
    (job,) = stage.done(job.retry())
    assert (job.status, job.run_after, job.waiting_for) == (JobStatus.SUCCESSFUL, None, None)
    assert stage.journal() == ["now"]


def test_a_paused_queue_waits_and_the_others_go_on(stage: Stage) -> None:
    stage.needs("pauses")
    note = stage.task("note")
    stage.engine.pause("mail")
    mail = note.using(queue_name="mail").enqueue("mail")
    note.enqueue("other")
    stage.work()
    assert stage.journal() == ["other"]
    (queue,) = (queue for queue in stage.engine.queues() if queue.name == "mail")
    assert (queue.ready, queue.running) == (1, 0)
    assert queue.paused_at is not None
    stage.engine.resume("mail")
    stage.done(mail)
    assert stage.journal() == ["other", "mail"]


def test_a_unique_job_is_not_enqueued_twice(stage: Stage) -> None:
    stage.needs("deferred")
    stage.needs("unique")
    once = stage.task("once").using(run_after=timedelta(hours=1))
    first, same, other = once.enqueue(1), once.enqueue(1), once.enqueue(2)
    assert (same.id, same.is_duplicate) == (first.id, True)
    assert (other.id != first.id, first.is_duplicate, other.is_duplicate) == (True, False, False)
    first.cancel()
    assert not once.enqueue(1).is_duplicate


def test_a_unique_job_may_come_again_when_it_is_done_unless_declared_otherwise(
    stage: Stage,
) -> None:
    stage.needs("unique")
    once, once_a_day = stage.task("once"), stage.task("once_a_day")
    first, daily = stage.done(once.enqueue(1), once_a_day.enqueue(1, "monday"))
    again, same = once.enqueue(1), once_a_day.enqueue(1, "monday again")
    assert (again.id != first.id, again.is_duplicate) == (True, False)
    assert (same.id, same.is_duplicate) == (daily.id, True)
    assert same.status is JobStatus.SUCCESSFUL


def test_jobs_with_one_concurrency_key_take_turns(stage: Stage) -> None:
    stage.needs("limits")
    by_itself = stage.task("by_itself")
    stage.offload.enqueue_many(by_itself.call(str(number)) for number in range(6))
    stage.work(threads=4)
    lines = stage.journal()
    assert len(lines) == 12
    assert all(
        start == end.replace("end", "start")
        for start, end in zip(lines[::2], lines[1::2], strict=True)
    )


def test_a_rate_is_kept(stage: Stage) -> None:
    stage.needs("limits")
    jobs = [stage.task("seldom").enqueue(str(number)) for number in range(5)]
    stage.done(*jobs)
    assert sorted(stage.journal()) == ["0", "1"]
    assert {job.waiting_for for job in jobs[2:]} == {"rate"}


def test_a_schedule_fires_each_time_once(kind: type[Stage], tmp_path: Path) -> None:
    stage = kind(tmp_path, BEATS=True)
    stage.needs("schedules")
    began = time.time()
    stage.work()  # the schedule counts from here
    wait_until(lambda: time.time() > began + 2.5)
    stage.work()
    beats = stage.jobs(task="contract_app.beat")
    assert 1 <= len(beats) == len(stage.journal()) <= time.time() - began
    stage.close()


def test_a_running_job_can_be_asked_to_stop(stage: Stage) -> None:
    stage.needs("cancels_running")
    job = stage.task("until_cancelled").enqueue()
    with stage.worker():
        wait_until(lambda: stage.journal() == ["running"], 60)
        if stage.flags.retries:
            with pytest.raises(InvalidTransition, match="RUNNING"):
                job.retry()
        assert job.cancel().cancel_requested
        wait_until(lambda: job.refresh().is_finished, 30)
    assert job.status is JobStatus.CANCELLED
    assert stage.journal() == ["running", "heard it"]


def test_a_job_survives_the_death_of_every_process(stage: Stage) -> None:
    stage.needs("durable")
    job = stage.task("survive").enqueue()
    waiting = stage.task("note").enqueue("waited")
    with stage.worker() as process:
        wait_until(lambda: "attempt 1" in stage.journal(), 60)
        for pid in (process.pid, *process.family()):
            with suppress(ProcessLookupError):
                kill9(pid)
    job, waiting = stage.done(job, waiting)
    assert (job.status, job.return_value) == (JobStatus.SUCCESSFUL, 2)
    assert [attempt.outcome for attempt in job.attempts] == ["CRASHED", "SUCCESSFUL"]
    assert waiting.status is JobStatus.SUCCESSFUL


def test_an_isolated_job_ends_no_other(stage: Stage) -> None:
    stage.needs("isolates")
    killed, *others = stage.done(
        stage.task("kill_itself").enqueue(),
        *(stage.task("echo").enqueue(number) for number in range(10)),
    )
    assert killed.status is JobStatus.FAILED
    assert [job.return_value for job in others] == list(range(10))
    assert {len(job.attempts) for job in others} == {1}


def test_a_small_file_can_be_an_argument(stage: Stage) -> None:
    (job,) = stage.done(stage.task("read").enqueue(_upload(b"a,b\n1,2\n")))
    assert job.return_value == "table.csv: 8 bytes, a,b"


def test_a_large_file_needs_a_way_beside_the_arguments(stage: Stage) -> None:
    upload = _upload(b"a,b\n" + b"x" * 2_000_000)
    if not stage.flags.files:
        with pytest.raises(FileTooLarge, match="'files'"):
            stage.task("read").enqueue(upload)
        return
    (job,) = stage.done(stage.task("read").enqueue(upload))
    assert job.return_value == "table.csv: 2000004 bytes, a,b"


def _upload(content: bytes) -> FileStorage:
    return FileStorage(io.BytesIO(content), filename="table.csv")


def test_results_and_jobs_are_forgotten_in_their_time(stage: Stage) -> None:
    stage.needs("retention")
    (kept,) = stage.done(stage.task("echo").enqueue(1))
    brief, gone = stage.task("brief").enqueue(2), stage.task("gone_soon").enqueue(3)
    withdrawn = stage.task("gone_soon").enqueue(4).cancel()
    with stage.worker():
        wait_until(lambda: _is_gone(gone) and _is_gone(withdrawn), 60)
        wait_until(lambda: brief.refresh().is_finished and brief.return_value is None, 60)
    assert brief.status is JobStatus.SUCCESSFUL
    assert kept.refresh().return_value == 1


def _is_gone(job: Job) -> bool:
    try:
        job.refresh()
    except JobNotFound:
        return True
    return False


def test_a_batch_is_accepted_as_a_whole_or_not_at_all(stage: Stage) -> None:
    stage.needs("transactional_batches")
    good, clash = (stage.task("note").call(text).new_job for text in ("good", "clash"))
    clash.id, clash.task = good.id, None  # type: ignore[assignment]
    with pytest.raises((ValueError, apsw.ConstraintError, psycopg.IntegrityError)):
        stage.engine.enqueue([good, clash])
    assert stage.jobs() == []
    stage.work()
    assert stage.journal() == []


def test_what_the_flags_deny_is_refused(stage: Stage) -> None:
    engine, flags = stage.engine, stage.flags
    calls: dict[str, Callable[[], object]] = {
        "lists": lambda: engine.list(JobQuery()),
        "cancels_waiting": lambda: engine.cancel("f" * 44),
        "retries": lambda: engine.retry("f" * 44),
        "pauses": lambda: engine.pause("mail"),
    }
    for flag, call in calls.items():
        if not getattr(flags, flag):
            with pytest.raises(UnsupportedByEngine, match=flag):
                call()
    for flag, call in requests(stage).items():
        if not getattr(flags, flag) and flag not in engine.ignores:
            with pytest.raises(UnsupportedByEngine, match=f"'{flag}'"):
                call()
        else:
            call()


def requests(stage: Stage) -> dict[str, Callable[[], object]]:
    """What a flag is needed for when something is declared or enqueued."""
    note = stage.task("note")

    def declare(**options: Any) -> Callable[[], object]:
        return lambda: stage.offload.task(name=f"with_{options}", **options)(test_a_rate_is_kept)

    return {
        "unique": declare(unique=True),
        "limits": declare(concurrency=1),
        "isolates": declare(isolate=True),
        "retention": declare(result_ttl=1),
        "priorities": lambda: note.using(priority=1).enqueue("x"),
        "deferred": lambda: note.using(run_after=timedelta(0)).enqueue("x"),
        "schedules": lambda: stage.offload.every("@hourly")(stage.task("nothing")),
        "transactional_batches": lambda: stage.offload.enqueue_many(
            [note.call("x"), note.call("y")]
        ),
    }


def test_the_next_call_after_close_opens_again(stage: Stage) -> None:
    job = stage.task("echo").enqueue(1)
    stage.engine.close()
    (job,) = stage.done(job)
    assert job.return_value == 1


def test_errors_of_an_engine_differ_from_those_of_its_caller() -> None:
    assert not issubclass(JobNotFound, EngineUnavailable)
    assert not issubclass(PayloadError, EngineUnavailable)
