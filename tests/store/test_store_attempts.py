"""Claims and outcomes: who gets which job, what becomes of it, and whose word counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_offload.engines.attempt_writes import FENCE
from flask_offload.engines.base import JobQuery
from flask_offload.engines.sqlite import completion as outcomes
from flask_offload.jobs.attempt import Claim, Ending, Report
from flask_offload.jobs.job import Error, JobRecord, JobStatus
from flask_offload.jobs.new_job import ASYNC, ISOLATED, QUARANTINED, THREADS
from flask_offload.jobs.transition import MAX_CRASHES
from store_support import KEEP, LANES, START, Store, Worker, outcome, stale_claim


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as made:
        yield made


# --- claims --------------------------------------------------------------------------------------


def test_a_claim_has_all_that_is_needed_to_run(store: Store) -> None:
    record = store.enqueue(
        task="app.mail", queue_name="q", priority=3, args="[1]", owner="me", context='{"a":1}'
    )
    store.clock.tick(2)
    worker = store.worker()
    claim = worker.claim_one()
    assert (claim.id, claim.task, claim.queue_name, claim.lane) == (
        *(record.id, "app.mail", "q"),
        THREADS,
    )
    assert (claim.priority, claim.args, claim.owner, claim.context) == (3, "[1]", "me", '{"a":1}')
    assert (claim.attempt, claim.failures, claim.crashes, claim.cursor) == (1, 0, 0, None)
    assert (claim.enqueued_at, claim.claimed_at, claim.on_crash) == (START, START + 2, "retry")
    stored = store.get(record)
    assert (stored.status, stored.worker, stored.started_at) == (
        JobStatus.RUNNING,
        worker.id,
        START + 2,
    )
    (attempt,) = stored.attempts
    assert (attempt.number, attempt.worker, attempt.outcome) == (1, worker.id, None)


def test_strict_order_by_priority_then_age_across_queues(store: Store) -> None:
    order = [(0, "a"), (5, "b"), (0, "b"), (5, "a"), (-5, "a"), (100, "b"), (-100, "b"), (0, "a")]
    records = {
        store.enqueue(priority=priority, queue_name=queue).id: (priority, number)
        for number, (priority, queue) in enumerate(order)
    }
    worker = store.worker()
    claimed = [records[claim.id] for _ in range(4) for claim in worker.claim(2)]
    assert claimed == sorted(records.values(), key=lambda pair: (-pair[0], pair[1]))
    assert worker.claim(2) == []


def test_no_more_is_claimed_than_the_capacity(store: Store) -> None:
    for lane in LANES * 3:
        store.enqueue(lane=lane)
    worker = store.worker()
    room = {THREADS: 2, ASYNC: 0, ISOLATED: 1}
    assert [claim.lane for claim in worker.exchange(capacity=room).claims] == [
        THREADS,
        ISOLATED,
        THREADS,
    ]
    assert worker.exchange(capacity={}).claims == []
    assert worker.exchange(capacity={THREADS: -1, ASYNC: 9}).claims[0].lane == ASYNC


def test_a_worker_takes_from_its_queues_only(store: Store) -> None:
    mine, foreign = store.enqueue(queue_name="mine"), store.enqueue(queue_name="foreign")
    assert [claim.id for claim in store.worker(queues=["mine", "none"]).claim(9)] == [mine.id]
    assert store.worker(queues=[]).claim(9) == []
    assert [claim.id for claim in store.worker().claim(9)] == [foreign.id]


def test_two_workers_never_hold_the_same_job(store: Store) -> None:
    records = [store.enqueue() for _ in range(20)]
    workers = [store.worker(), store.worker()]
    held = [claim.id for number in range(20) for claim in workers[number % 2].claim(1)]
    assert sorted(held) == [record.id for record in records]
    assert workers[0].claim(1) == []


# --- outcomes ------------------------------------------------------------------------------------


def test_a_success_keeps_its_result_and_its_times(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    store.clock.tick(3)
    assert worker.finish(claim, result='{"x":1}')
    stored = store.get(record)
    assert (stored.status, stored.result, stored.error) == (JobStatus.SUCCESSFUL, '{"x":1}', None)
    assert (stored.started_at, stored.finished_at) == (START, START + 3)
    (attempt,) = stored.attempts
    assert (attempt.number, attempt.outcome, attempt.worker) == (1, "SUCCESSFUL", worker.id)
    (listed,) = store.engine.list(JobQuery())
    assert listed.result is None


def test_a_failure_keeps_its_reason(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    assert worker.finish(worker.claim_one(), Ending.FAILED, error=Error("ValueError", "no", "tb"))
    stored = store.get(record)
    assert (stored.status, stored.error) == (JobStatus.FAILED, Error("ValueError", "no", "tb"))
    assert [attempt.error for attempt in stored.attempts] == [stored.error]
    assert stored.result is None


def test_many_outcomes_and_claims_go_in_one_exchange(store: Store) -> None:
    records = [store.enqueue() for _ in range(6)]
    worker = store.worker()
    claims = worker.claim(3)
    endings = [Ending.SUCCESSFUL, Ending.FAILED, Ending.RETRY]
    written = [outcome(claim, START, ending) for claim, ending in zip(claims, endings, strict=True)]
    exchanged = worker.exchange(*written, capacity={THREADS: 3})
    assert exchanged.refused == []
    # the one that is tried again has its old place, before those that came later
    assert [claim.id for claim in exchanged.claims] == [
        *(records[2].id, records[3].id, records[4].id),
    ]
    assert [store.status(record) for record in records] == [
        *(JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.RUNNING),
        *(JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.READY),
    ]


def test_a_retry_counts_and_waits_for_its_delay(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    worker.finish(worker.claim_one(), Ending.RETRY, after=10.0)
    stored = store.get(record)
    assert (stored.status, stored.waiting_for) == (JobStatus.READY, "its time")
    assert (stored.run_after, stored.worker) == (START + 10, None)
    assert stored.error == Error("ValueError", "no", "Traceback …")
    assert worker.sqlite_store.next_due() == START + 10
    store.clock.tick(10)
    assert worker.claim(1) == [], "only promote() lets it through"
    assert worker.sqlite_store.promote() == 1
    claim = worker.claim_one()
    assert (claim.attempt, claim.failures) == (2, 1)
    worker.finish(claim, Ending.RETRY)
    assert (worker.claim_one().attempt, store.get(record).attempt) == (3, 3)
    outcomes_told = [attempt.outcome for attempt in store.get(record).attempts]
    assert outcomes_told == ["RETRY", "RETRY", None]


def test_an_interruption_costs_nothing_and_keeps_the_cursor(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    worker.sqlite_store.report([Report(claim.seq, 1, 5.0, 10.0, "half", '{"row":5}')])
    stored = store.get(record)
    assert (stored.done, stored.total, stored.message) == (5.0, 10.0, "half")
    worker.sqlite_store.report([Report(claim.seq, 1, 6.0, 10.0, None, None)])
    worker.finish(claim, Ending.INTERRUPTED)
    claim = store.worker().claim_one()
    assert (claim.attempt, claim.failures, claim.crashes) == (2, 0, 0)
    assert claim.cursor == '{"row":5}', "a report without a cursor leaves it"
    assert store.get(record).done is None, "a new attempt reports anew"


def test_a_crash_runs_again_and_at_last_alone(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    for crashes in range(MAX_CRASHES):
        lane = QUARANTINED if crashes == MAX_CRASHES - 1 else THREADS
        claim = worker.claim_one(lane)
        assert (claim.crashes, claim.failures) == (crashes, 0)
        worker.finish(claim, Ending.CRASHED, error=Error("WorkerDied", "killed by SIGKILL"))
    stored = store.get(record)
    assert (stored.status, stored.crashes) == (JobStatus.FAILED, MAX_CRASHES)
    assert stored.error is not None
    assert "killed by SIGKILL; not tried again" in stored.error.message
    assert f"crash {MAX_CRASHES} of {MAX_CRASHES}" in stored.error.message
    assert [attempt.outcome for attempt in stored.attempts] == ["CRASHED"] * MAX_CRASHES


def test_crashes_between_failures_add_up(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    for ending in (Ending.CRASHED, Ending.RETRY, Ending.INTERRUPTED):
        worker.finish(worker.claim_one(), ending)
    claim = worker.claim_one()
    assert (claim.attempt, claim.failures, claim.crashes) == (4, 1, 1)
    assert store.get(record).attempt == 4


def test_what_must_not_run_twice_fails_with_its_worker(store: Store) -> None:
    record = store.enqueue(on_crash="fail")
    worker = store.worker()
    worker.finish(worker.claim_one(), Ending.CRASHED, error=Error("WorkerDied", "it died"))
    stored = store.get(record)
    assert stored.status is JobStatus.FAILED
    assert stored.error is not None
    assert "may not run twice" in stored.error.message


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, JobStatus.READY), (Error("Interrupted", "cut short"), JobStatus.FAILED)],
)
def test_an_interrupted_one_that_must_not_run_twice(
    store: Store, error: Error | None, status: JobStatus
) -> None:
    """At a checkpoint it may go on; cut short anywhere else, it has to end."""
    record = store.enqueue(on_crash="fail")
    worker = store.worker()
    worker.finish(worker.claim_one(), Ending.INTERRUPTED, error=error)
    assert store.status(record) is status


def test_files_go_with_the_success_and_stay_for_a_retry(store: Store) -> None:
    store.enqueue(files=("one", "two"))
    worker = store.worker()
    exchanged = worker.exchange(outcome(worker.claim_one(), START, Ending.FAILED))
    assert exchanged.stray_files == []
    store.engine.retry(store.engine.list(JobQuery())[0].id)
    exchanged = worker.exchange(outcome(worker.claim_one(), START))
    assert sorted(exchanged.stray_files) == ["one", "two"]
    assert store.query("SELECT * FROM files") == []


# --- given back ----------------------------------------------------------------------------------


def test_what_is_given_back_has_cost_nothing(store: Store) -> None:
    record = store.enqueue(run_after=START - 5)
    before = store.get(record)
    worker = store.worker()
    for _ in range(10):
        worker.give_back(worker.claim_one())
    assert store.get(record) == before
    claim = store.worker().claim_one()
    assert (claim.attempt, claim.failures, claim.crashes) == (1, 0, 0)


def test_what_is_given_back_for_later_is_left_alone_till_then(store: Store) -> None:
    record = store.enqueue(concurrency_key="k", concurrency=1)
    following = store.enqueue(concurrency_key="k", concurrency=1)
    worker = store.worker()
    worker.give_back(worker.claim_one(), delay=5.0)
    assert store.get(record).waiting_for == "its time"
    assert worker.sqlite_store.next_due() == START + 5
    assert worker.claim_one().id == following.id, "meanwhile the place is another's"
    store.clock.tick(5)
    assert worker.sqlite_store.promote() == 1
    assert store.get(record).waiting_for == "concurrency"


# --- durability of a claim -----------------------------------------------------------------------


def test_the_claim_of_what_must_not_run_twice_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(tmp_path, durable=True)) as store:
        promises: list[bool] = []
        write = store.engine.database.write

        def watched(work: Any, *, promise: bool = True) -> Any:
            promises.append(promise)
            return write(work, promise=promise)

        store.enqueue()
        store.enqueue(on_crash="fail")
        worker = store.worker()
        monkeypatch.setattr(store.engine.database, "write", watched)
        assert len(worker.claim(1)) == 1
        assert promises == [False]
        promises.clear()
        (claim,) = worker.claim(1)
        assert (claim.attempt, promises[-1]) == (1, True)
        assert worker.finish(claim)
        assert promises[-1] is True


# --- fences --------------------------------------------------------------------------------------


def try_late_writes(store: Store, *, cancelled: bool) -> None:
    """AssertionError if any word counts about an attempt that its speaker does not hold.

    cancelled: whether the jobs have been asked to stop meanwhile.
    """
    first, second = store.worker(), store.worker()
    store.enqueue()
    store.enqueue()
    bystander = second.claim_one()
    given_up = first.claim_one()
    first.finish(given_up, Ending.RETRY)  # attempt 2 of this job is now another's
    current = second.claim_one()
    assert current.seq == given_up.seq
    if cancelled:
        store.engine.cancel(current.id)
        store.engine.cancel(bystander.id)
    for claim, speaker in (
        (given_up, first),  # wrong attempt, wrong worker
        (given_up, second),  # wrong attempt of the right worker
        (current, first),  # right attempt, wrong worker
        (bystander, first),
        (stale_claim(0, current.id, current.attempt), second),  # no such job
    ):
        speak_in_vain(store, claim, speaker)
    assert second.finish(current)
    assert second.finish(bystander, Ending.FAILED)
    for claim in (current, bystander):  # wrong state
        speak_in_vain(store, claim, second)


def speak_in_vain(store: Store, claim: Claim, speaker: Worker) -> None:
    """Say everything about this attempt that a worker can say; it must change nothing."""
    before = everything(store)
    for ending in Ending:
        late = outcome(claim, store.clock(), ending)
        assert speaker.sqlite_store.exchange([late], {}).refused == [late], ending
    speaker.sqlite_store.give_back([claim])
    speaker.sqlite_store.give_back([claim], delay=5.0)
    speaker.sqlite_store.report([Report(claim.seq, claim.attempt, 1.0, 2.0, "late", "late", "[]")])
    assert everything(store) == before


def everything(store: Store) -> list[list[tuple[Any, ...]]]:
    """All that the database holds about jobs."""
    tables = ("jobs", "attempts", "results", "payloads", "files", "limits", "starts", "logs")
    return [store.query(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_late_write_changes_nothing(store: Store, cancelled: bool) -> None:
    try_late_writes(store, cancelled=cancelled)


def statements() -> dict[str, str]:
    """Every statement about an attempt: the module's own, and those that AttemptWrites executes."""
    own = {
        name: sql for name, sql in vars(outcomes).items() if name.isupper() and isinstance(sql, str)
    }
    return own | {name.upper(): sql for name, sql in outcomes.Completion.sql._asdict().items()}


FENCED = ("SUCCEED", "HELD", "REPORT", "LOG")
PREDICATES = {
    "seq = ?": "seq IS NOT ?",
    "attempt = ?": "? IS NOT NULL",
    "worker = ?": "? IS NOT NULL",
    "state = 'running'": "1",
}


@pytest.mark.parametrize("predicate", PREDICATES)
@pytest.mark.parametrize("statement", FENCED)
def test_each_part_of_each_fence_is_needed(
    store: Store, monkeypatch: pytest.MonkeyPatch, statement: str, predicate: str
) -> None:
    """Take it away, and the test above has to notice."""
    sql = statements()[statement]
    assert sql.count(predicate) == 1, (statement, predicate)
    weaker = sql.replace(predicate, PREDICATES[predicate])
    if hasattr(outcomes, statement):
        monkeypatch.setattr(outcomes, statement, weaker)
    else:
        replaced = outcomes.Completion.sql._replace(**{statement.lower(): weaker})
        monkeypatch.setattr(outcomes.Completion, "sql", replaced)
    with pytest.raises(AssertionError):
        try_late_writes(store, cancelled=False)


def test_no_statement_about_an_attempt_is_without_a_fence() -> None:
    """Those four follow HELD, which has the fence, in the same transaction."""
    about = {name: sql for name, sql in statements().items() if "jobs" in sql}
    assert {name for name, sql in about.items() if FENCE not in sql} == {
        "END",
        "READY_AGAIN",
        "UNCLAIM",
        "UNCLAIM_CANCELLED",
    }
    assert {name for name, sql in about.items() if FENCE in sql} == set(FENCED)


def test_late_writes_of_a_worker_that_was_given_up_are_refused(store: Store) -> None:
    record = store.enqueue()
    stopped, healthy = store.worker(), store.worker()
    claim = stopped.claim_one()
    stopped.die()
    store.recover()
    again = healthy.claim_one()
    late = outcome(claim, store.clock(), result='"late"')
    assert stopped.sqlite_store.exchange([late], {}).refused == [late]
    assert healthy.finish(again, result='"good"')
    assert stopped.sqlite_store.exchange([late], {}).refused == [late]
    assert store.get(record).result == '"good"'


def test_the_keep_of_a_task_applies_where_the_task_is_not_loaded(store: Store) -> None:
    """Its process died, or it was stopped by force before it began."""

    def expires_at(record: JobRecord) -> Any:
        return store.query("SELECT expires_at FROM jobs WHERE id = ?", record.id)[0][0]

    died, stopped, unstarted = (store.enqueue(task="brief", on_crash="fail") for _ in range(3))
    worker = store.worker()
    first, second, third = worker.claim(3)
    store.engine.cancel(stopped.id, force=True)
    store.engine.cancel(unstarted.id)
    worker.finish(first, Ending.CRASHED)
    worker.finish(second, Ending.CRASHED)
    worker.give_back(third)
    found = [(store.status(record), expires_at(record)) for record in (died, stopped, unstarted)]
    assert found == [
        (JobStatus.FAILED, START + 5),
        (JobStatus.CANCELLED, START + 6),
        (JobStatus.CANCELLED, START + 6),
    ]


def test_the_keep_of_a_task_applies_to_jobs_of_a_dead_worker(store: Store) -> None:
    record = store.enqueue(task="brief", on_crash="fail")
    worker = store.worker()
    worker.claim_one()
    worker.die()
    store.recover()
    assert store.status(record) is JobStatus.FAILED
    assert store.query("SELECT expires_at FROM jobs WHERE id = ?", record.id) == [(START + 5,)]


def test_retention_is_kept_per_outcome(store: Store) -> None:
    worker = store.worker()
    kept = {
        Ending.SUCCESSFUL: KEEP.successful,
        Ending.FAILED: KEEP.failed,
        Ending.CANCELLED: KEEP.failed,
    }
    for ending, seconds in kept.items():
        for keep, expected in ((None, seconds), (7.0, 7.0), (0.0, 0.0)):
            store.enqueue()
            claim = worker.claim_one()
            worker.finish(claim, ending, keep=keep)
            expires_at = store.query("SELECT expires_at FROM jobs WHERE seq = ?", claim.seq)
            assert expires_at == [(START + expected,)]
