"""The store as those see it who send jobs: accept, tell, cancel, retry, pause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from flask_offload.engines.base import JobQuery
from flask_offload.engines.sqlite.sender import INLINE_ARGS
from flask_offload.errors import InvalidTransition, JobNotFound
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.job import FINISHED, JobRecord, JobStatus, new_id
from flask_offload.jobs.new_job import ISOLATED
from flask_offload.jobs.rate import Rate
from store_support import KEEP, START, Store, Worker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as made:
        yield made


# --- accept and tell -----------------------------------------------------------------------------


def test_a_job_is_read_as_it_was_accepted(store: Store) -> None:
    record = store.enqueue(
        task="app.mail",
        queue_name="mail",
        priority=7,
        args='[[1],{"a":2}]',
        owner="user:7",
        origin="schedule",
        run_after=START + 60,
    )
    stored = store.get(record)
    assert stored == record
    assert (stored.task, stored.queue_name, stored.priority) == ("app.mail", "mail", 7)
    assert (stored.owner, stored.origin, stored.run_after) == ("user:7", "schedule", START + 60)
    assert (stored.status, stored.enqueued_at, stored.waiting_for) == (
        JobStatus.READY,
        START,
        "its time",
    )
    assert (stored.attempt, stored.attempts, stored.result, stored.error) == (0, [], None, None)
    assert store.engine.arguments(record.id) == '[[1],{"a":2}]'


@pytest.mark.parametrize("length", [0, INLINE_ARGS, INLINE_ARGS + 1, 1_000_000])
def test_arguments_of_any_size_reach_the_worker(store: Store, length: int) -> None:
    args = "x" * length
    record = store.enqueue(args=args)
    assert store.worker().claim_one().args == args
    assert store.engine.arguments(record.id) == args


def test_large_arguments_lie_beside_the_row(store: Store) -> None:
    for length in (INLINE_ARGS, INLINE_ARGS + 1):
        store.enqueue(args="x" * length)
    assert store.query("SELECT length(args) FROM jobs ORDER BY seq") == [(INLINE_ARGS,), (None,)]
    assert store.query("SELECT length(args) FROM payloads") == [(INLINE_ARGS + 1,)]


def test_ids_sort_by_age_and_can_not_be_guessed(store: Store) -> None:
    records = [store.enqueue() for _ in range(20)]
    ids = [record.id for record in records]
    assert ids == sorted(ids)
    assert len({job_id[-32:] for job_id in ids}) == 20
    near = f"{int(ids[0][:-32], 16):012x}"
    for guess in (near + "0" * 32, near + ids[1][-32:], near):
        with pytest.raises(JobNotFound):
            store.engine.get(guess)


def test_ids_keep_the_secret_of_the_sender(store: Store) -> None:
    mine = new_id()
    assert store.enqueue(id=mine).id[-32:] == mine[-32:]


def test_numbers_go_on_when_the_clock_is_set_back_and_after_a_prune(store: Store) -> None:
    first = store.enqueue()
    store.clock.tick(-3600)
    second = store.enqueue()
    assert second.id > first.id
    store.execute("DELETE FROM jobs")
    store.clock.tick(3600.1)
    assert store.enqueue().id > second.id


@pytest.mark.parametrize(
    "job_id",
    ["", "x", "f" * 44, "-1" + "0" * 42, "é" * 44, "f" * 1000, "0x1f" + "0" * 40, "\0" * 44],
)
def test_an_unknown_id_is_not_found(store: Store, job_id: str) -> None:
    store.enqueue()
    for ask in (store.engine.get, store.engine.cancel, store.engine.retry, store.engine.arguments):
        with pytest.raises(JobNotFound, match="never existed"):
            ask(job_id)


def test_an_id_is_found_by_its_beginning(store: Store) -> None:
    one = store.enqueue()
    store.clock.tick(3600)
    two = store.enqueue()
    assert list(store.engine.ids(one.id)) == [one.id]
    assert list(store.engine.ids(one.id[:14])) == [one.id]
    assert list(store.engine.ids(two.id[:11])) == [two.id]
    assert sorted(store.engine.ids(one.id[:2])) == [one.id, two.id]
    assert sorted(store.engine.ids("")) == [one.id, two.id]
    for nothing in ("zz", one.id + "0", one.id[:20] + "x", "1_", " "):
        assert list(store.engine.ids(nothing)) == []


# --- lists and counts ----------------------------------------------------------------------------


def one_of_each(store: Store, worker: Worker) -> dict[JobStatus, JobRecord]:
    """A job of every status."""
    endings = {
        JobStatus.SUCCESSFUL: Ending.SUCCESSFUL,
        JobStatus.FAILED: Ending.FAILED,
        JobStatus.CANCELLED: Ending.CANCELLED,
    }
    records = {}
    for status, ending in endings.items():
        records[status] = store.enqueue()
        worker.finish(worker.claim_one(), ending)
    records[JobStatus.RUNNING] = store.enqueue()
    worker.claim_one()
    records[JobStatus.READY] = store.enqueue()
    return records


def test_jobs_are_listed_newest_first_by_any_condition(store: Store) -> None:
    mail = [store.enqueue(task="mail", owner="me") for _ in range(3)]
    scan = [store.enqueue(task="scan", queue_name="slow") for _ in range(2)]

    def listed(**query: object) -> list[str]:
        return [record.id for record in store.engine.list(JobQuery(**query))]  # type: ignore[arg-type]

    newest_first = [record.id for record in reversed(mail + scan)]
    assert listed() == newest_first
    assert listed(limit=2) == newest_first[:2]
    assert listed(limit=2, offset=2) == newest_first[2:4]
    assert listed(offset=-1) == newest_first
    assert listed(task="mail") == newest_first[2:]
    assert listed(queue_name="slow") == newest_first[:2]
    assert listed(owner="me", task="mail", status=JobStatus.READY) == newest_first[2:]
    assert listed(owner="you") == []
    assert listed(limit=0) == newest_first[:1]


def test_each_status_is_listed_and_counted(store: Store) -> None:
    records = one_of_each(store, store.worker())
    assert store.engine.count() == dict.fromkeys(JobStatus, 1)
    for status, record in records.items():
        (listed,) = store.engine.list(JobQuery(status=status))
        assert (listed.id, listed.status) == (record.id, status)
        stored = store.get(record)
        assert stored.status is status
        assert (stored.finished_at is not None) == (status in FINISHED)


@pytest.mark.parametrize(
    ("options", "waiting_for"),
    [
        ({}, None),
        ({"run_after": START - 1}, None),
        ({"run_after": START}, None),
        ({"run_after": START + 1}, "its time"),
        ({"concurrency_key": "k", "concurrency": 1}, "concurrency"),
        ({"rate_key": "k", "rate": Rate(1, 10)}, "rate"),
    ],
)
def test_ready_jobs_report_what_they_wait_for(
    store: Store, options: dict[str, object], waiting_for: str | None
) -> None:
    if "concurrency_key" in options or "rate_key" in options:
        assert store.enqueue(**options).waiting_for is None  # it takes the room there is
    record = store.enqueue(**options)
    assert (record.status, record.waiting_for) == (JobStatus.READY, waiting_for)
    assert store.get(record).waiting_for == waiting_for
    assert store.engine.count()[JobStatus.READY] == len(store.engine.list(JobQuery()))


def test_queues_are_known_from_their_first_job_on(store: Store) -> None:
    assert list(store.engine.queues()) == []
    store.enqueue(queue_name="b")
    store.enqueue(queue_name="b", run_after=START + 60)
    store.enqueue(queue_name="a")
    worker = store.worker(queues=["a"])
    claim = worker.claim_one()
    stored = [(info.name, info.ready, info.running) for info in store.engine.queues()]
    assert stored == [("a", 0, 1), ("b", 2, 0)]
    worker.finish(claim)
    store.engine.close()
    stored = [(info.name, info.ready, info.running) for info in store.engine.queues()]
    assert stored == [("a", 0, 0), ("b", 2, 0)]


def test_clear_forgets_all_but_the_queues(store: Store) -> None:
    store.engine.pause("b")
    store.enqueue(queue_name="a", args="x" * 1000, concurrency_key="k", concurrency=1)
    store.enqueue(queue_name="a", files=("f",), rate_key="k", rate=Rate(1, 10))
    store.engine.clear()
    assert store.engine.list(JobQuery()) == []
    assert [(info.name, info.paused_at) for info in store.engine.queues()] == [
        ("a", None),
        ("b", None),
    ]
    for table in ("jobs", "payloads", "results", "attempts", "files", "limits", "starts"):
        assert store.query(f"SELECT count(*) FROM {table}") == [(0,)]


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_comes_back_in_order(store: Store) -> None:
    jobs = [store.new(args=f"[{number}]") for number in range(500)]
    records = store.engine.enqueue(jobs)
    assert [store.engine.arguments(record.id) for record in records] == [job.args for job in jobs]
    assert [record.id for record in records] == sorted(record.id for record in records)
    assert store.engine.enqueue([]) == []


def test_a_batch_is_accepted_whole_or_not_at_all(store: Store) -> None:
    before = store.enqueue(unique_key="held")
    broken = store.new()
    broken.task = None  # type: ignore[assignment]
    batch = [
        store.new(args="x" * 1000, files=("f",)),
        store.new(unique_key="mine"),
        store.new(queue_name="other", concurrency_key="k", concurrency=1),
        broken,
    ]
    with pytest.raises(apsw.ConstraintError):
        store.engine.enqueue(batch)
    assert [record.id for record in store.engine.list(JobQuery())] == [before.id]
    for table in ("payloads", "files", "limits"):
        assert store.query(f"SELECT count(*) FROM {table}") == [(0,)]
    accepted = store.engine.enqueue(batch[:-1])
    assert [record.is_duplicate for record in accepted] == [False, False, False]
    assert {claim.id for claim in store.worker().claim(10)} == {
        record.id for record in (before, *accepted)
    }


# --- unique --------------------------------------------------------------------------------------


def test_a_unique_job_is_found_while_it_waits_and_runs(store: Store) -> None:
    first = store.enqueue(unique_key="k")
    worker = store.worker()
    for status in (JobStatus.READY, JobStatus.RUNNING):
        again = store.enqueue(unique_key="k")
        assert (again.id, again.is_duplicate, again.status) == (first.id, True, status)
        if status is JobStatus.READY:
            claim = worker.claim_one()
    worker.finish(claim)
    second = store.enqueue(unique_key="k")
    assert (second.is_duplicate, second.id == first.id) == (False, False)
    assert store.enqueue(unique_key="other").is_duplicate is False
    assert store.status(first) is JobStatus.SUCCESSFUL


@pytest.mark.parametrize("status", list(JobStatus))
def test_unique_states_say_which_jobs_count(store: Store, status: JobStatus) -> None:
    store.enqueue(unique_key="k")
    worker = store.worker()
    if status is not JobStatus.READY:
        claim = worker.claim_one()
    if status in FINISHED:
        worker.finish(claim, Ending(status))
    for states in (frozenset({status}), frozenset(JobStatus)):
        assert store.enqueue(unique_key="k", unique_states=states).is_duplicate
    others = frozenset(JobStatus) - {status}
    assert not store.enqueue(unique_key="k", unique_states=others).is_duplicate


def test_unique_for_is_a_window_from_the_enqueue(store: Store) -> None:
    options = {"unique_key": "k", "unique_for": 60.0, "unique_states": frozenset(JobStatus)}
    first = store.enqueue(**options)
    store.clock.tick(59.9)
    assert store.enqueue(**options).id == first.id
    store.clock.tick(0.1)
    second = store.enqueue(**options)
    assert not second.is_duplicate
    store.clock.tick(59.9)
    assert store.enqueue(**options).id == second.id, "the window is that of the newer job"


def test_unique_jobs_of_one_batch_are_one(store: Store) -> None:
    first, twin, other = store.engine.enqueue(
        [store.new(unique_key="k"), store.new(unique_key="k"), store.new(unique_key="l")]
    )
    assert (twin.id, twin.is_duplicate) == (first.id, True)
    assert not other.is_duplicate
    assert store.engine.count()[JobStatus.READY] == 2


def test_a_duplicate_leaves_nothing_behind(store: Store) -> None:
    store.enqueue(unique_key="k")
    store.enqueue(unique_key="k", args="x" * 1000, files=("f",))
    assert store.query("SELECT count(*) FROM payloads") == [(0,)]
    assert store.query("SELECT count(*) FROM files") == [(0,)]


# --- cancel --------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(store: Store) -> None:
    limited = {"concurrency_key": "k", "concurrency": 1}
    waiting = {
        "ready": store.enqueue(**limited),
        "blocked": store.enqueue(**limited),
        "scheduled": store.enqueue(run_after=START + 60),
    }
    for state, record in reversed(waiting.items()):
        assert store.state(record) == state
        stored = store.engine.cancel(record.id)
        assert (stored.status, stored.finished_at) == (JobStatus.CANCELLED, START)
        assert stored.attempts == []
    store.clock.tick(100)
    assert store.worker().sqlite_store.promote() == 0
    assert store.worker().claim(10) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_running_job_is_asked_to_stop(store: Store, force: bool) -> None:
    record = store.enqueue()
    worker, other = store.worker(), store.worker()
    claim = worker.claim_one()
    assert worker.sqlite_store.cancellations() == []
    stored = store.engine.cancel(record.id, force=force)
    assert (stored.status, stored.cancel_requested) == (JobStatus.RUNNING, True)
    assert worker.sqlite_store.cancellations() == [(claim.seq, 1, force)]
    assert other.sqlite_store.cancellations() == []
    assert worker.finish(claim, Ending.CANCELLED)
    assert store.status(record) is JobStatus.CANCELLED
    assert worker.sqlite_store.cancellations() == []


def test_a_soft_cancel_does_not_take_a_hard_one_back(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    for force in (False, True, False):
        store.engine.cancel(record.id, force=force)
    assert worker.sqlite_store.cancellations() == [(claim.seq, 1, True)]


def end_by_give_back(worker: Worker) -> None:
    worker.give_back(*worker.held.values())


def end_by_delay(worker: Worker) -> None:
    worker.give_back(*worker.held.values(), delay=5.0)


def end_by_retry(worker: Worker) -> None:
    (claim,) = worker.held.values()
    worker.finish(claim, Ending.RETRY, after=5.0)


def end_by_interruption(worker: Worker) -> None:
    (claim,) = worker.held.values()
    worker.finish(claim, Ending.INTERRUPTED)


def end_by_crash(worker: Worker) -> None:
    (claim,) = worker.held.values()
    worker.finish(claim, Ending.CRASHED)


def end_by_death(worker: Worker) -> None:
    worker.die()
    worker.store.recover()


def end_by_death_before_the_start(worker: Worker) -> None:
    for claim in worker.held.values():
        worker.registration.slots.give_back(claim.ticket)
    end_by_death(worker)


@pytest.mark.parametrize(
    "end",
    [
        end_by_give_back,
        end_by_delay,
        end_by_retry,
        end_by_interruption,
        end_by_crash,
        end_by_death,
        end_by_death_before_the_start,
    ],
)
def test_a_cancelled_job_that_comes_back_never_runs_again(
    store: Store, end: Callable[[Worker], None]
) -> None:
    record = store.enqueue(concurrency_key="k", concurrency=1)
    following = store.enqueue(concurrency_key="k", concurrency=1)
    worker = store.worker()
    worker.claim_one()
    store.engine.cancel(record.id)
    end(worker)
    stored = store.get(record)
    assert (stored.status, stored.finished_at) == (JobStatus.CANCELLED, START)
    assert store.state(following) == "ready", "its place is free"
    assert store.query("SELECT expires_at FROM jobs WHERE id = ?", record.id) == [
        (START + KEEP.failed,)
    ]


@pytest.mark.parametrize("ending", [Ending.SUCCESSFUL, Ending.FAILED])
def test_a_job_may_end_before_the_cancel_reaches_it(store: Store, ending: Ending) -> None:
    record = store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    store.engine.cancel(record.id)
    assert worker.finish(claim, ending)
    assert store.status(record) is JobStatus(ending)


# --- by hand -------------------------------------------------------------------------------------


def test_what_can_be_cancelled_and_retried_is_one_table(store: Store) -> None:
    records = one_of_each(store, store.worker())
    for status in (JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.CANCELLED):
        with pytest.raises(InvalidTransition, match="finished already"):
            store.engine.cancel(records[status].id)
    with pytest.raises(InvalidTransition, match="finished already"):
        store.engine.retry(records[JobStatus.SUCCESSFUL].id)
    for status in (JobStatus.READY, JobStatus.RUNNING):
        with pytest.raises(InvalidTransition, match=f"it is {status}"):
            store.engine.retry(records[status].id)
    for status, record in records.items():
        assert store.status(record) is status


@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.CANCELLED])
def test_a_retry_by_hand_starts_the_counts_anew(store: Store, ending: Ending) -> None:
    record = store.enqueue(run_after=START)
    worker = store.worker()
    claim = worker.claim_one()
    worker.finish(claim, Ending.CRASHED)
    worker.finish(worker.claim_one(), ending)
    if ending is Ending.FAILED:
        assert worker.store.engine.get(record.id).error is not None
    stored = store.engine.retry(record.id)
    assert (stored.status, stored.crashes, stored.finished_at) == (JobStatus.READY, 0, None)
    assert (stored.run_after, stored.cancel_requested) == (None, False)
    assert [attempt.outcome for attempt in stored.attempts] == ["CRASHED", str(ending)]
    claim = worker.claim_one()
    assert (claim.attempt, claim.failures, claim.crashes) == (3, 0, 0)
    worker.finish(claim)
    assert store.status(record) is JobStatus.SUCCESSFUL
    assert store.get(record).error is None


def test_a_retried_job_has_its_old_place_in_the_order(store: Store) -> None:
    first, second = store.enqueue(), store.enqueue()
    store.engine.cancel(first.id)
    store.engine.retry(first.id)
    assert [claim.id for claim in store.worker().claim(2)] == [first.id, second.id]


def test_a_retried_job_waits_for_its_limits(store: Store) -> None:
    options = {"concurrency_key": "k", "concurrency": 1, "rate_key": "r", "rate": Rate(9, 10)}
    first = store.enqueue(**options)
    worker = store.worker()
    worker.finish(worker.claim_one(), Ending.FAILED)
    second = store.enqueue(**options)
    assert store.engine.retry(first.id).waiting_for == "concurrency"
    worker.finish(worker.claim_one())
    assert store.state(second) == "successful"
    assert store.state(first) == "ready"


# --- queues --------------------------------------------------------------------------------------


def test_a_paused_queue_starts_nothing(store: Store) -> None:
    paused, other = store.enqueue(queue_name="a"), store.enqueue(queue_name="b")
    store.engine.pause("a")
    store.clock.tick(5)
    store.engine.pause("a")
    later = store.enqueue(queue_name="a")
    worker = store.worker()
    assert [claim.id for claim in worker.claim(10)] == [other.id]
    store.engine.close()  # it survives a restart
    assert [(info.name, info.paused_at) for info in store.engine.queues()] == [
        ("a", START),
        ("b", None),
    ]
    assert worker.claim(10) == []
    store.engine.resume("a")
    store.engine.resume("a")
    assert [claim.id for claim in worker.claim(10)] == [paused.id, later.id]


def test_a_queue_can_be_paused_before_its_first_job(store: Store) -> None:
    store.engine.pause("new")
    record = store.enqueue(queue_name="new")
    assert store.worker().claim(1) == []
    store.engine.resume("new")
    store.engine.resume("never seen")
    assert store.worker().claim_one().id == record.id


def test_what_runs_when_its_queue_is_paused_goes_on(store: Store) -> None:
    record = store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    store.engine.pause("default")
    assert worker.finish(claim, Ending.RETRY)
    assert worker.claim(1) == []
    assert store.status(record) is JobStatus.READY


def test_lanes_are_claimed_apart(store: Store) -> None:
    threads, isolated = store.enqueue(), store.enqueue(lane=ISOLATED)
    worker = store.worker()
    assert [claim.id for claim in worker.claim(5, ISOLATED)] == [isolated.id]
    assert [claim.id for claim in worker.claim(5)] == [threads.id]
