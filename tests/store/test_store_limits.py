"""Limits: how many jobs of a key run at once, and how many start within a window."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flask_offload.engines.sqlite.maintenance import prune
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.job import JobRecord, JobStatus
from flask_offload.jobs.rate import Rate
from store_support import KEEP, START, Store, Worker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as made:
        yield made


def one_at_a_time(store: Store, count: int = 3, **options: object) -> list[JobRecord]:
    """So many jobs of one key."""
    return [store.enqueue(concurrency_key="k", concurrency=1, **options) for _ in range(count)]


def states(store: Store, records: list[JobRecord]) -> list[str]:
    return [store.state(record) for record in records]


# --- concurrency ---------------------------------------------------------------------------------


def test_no_more_jobs_of_a_key_run_at_once(store: Store) -> None:
    records = [store.enqueue(concurrency_key="k", concurrency=2) for _ in range(6)]
    workers = [store.worker(), store.worker()]
    done = []
    for _ in range(3):
        claims = [claim for worker in workers for claim in worker.claim(5)]
        assert len(claims) == 2
        done += [claim.id for claim in claims]
        for worker in workers:
            for claim in list(worker.held.values()):
                worker.finish(claim)
    assert done == [record.id for record in records]


@pytest.mark.parametrize("ending", list(Ending))
def test_every_ending_gives_the_place_to_the_next(store: Store, ending: Ending) -> None:
    first, second, _ = one_at_a_time(store)
    worker = store.worker()
    after = 5.0 if ending in (Ending.RETRY, Ending.INTERRUPTED, Ending.CRASHED) else 0.0
    worker.finish(worker.claim_one(), ending, after=after)
    assert worker.claim_one().id == second.id
    assert worker.claim(5) == []
    assert store.state(first) != "ready"


@pytest.mark.parametrize("ending", [Ending.RETRY, Ending.INTERRUPTED, Ending.CRASHED])
def test_a_job_that_is_put_back_has_its_old_place_in_the_order(
    store: Store, ending: Ending
) -> None:
    first, second, _ = one_at_a_time(store)
    worker = store.worker()
    worker.finish(worker.claim_one(), ending)
    assert states(store, [first, second]) == ["ready", "blocked"]


def test_a_dead_worker_gives_its_places_back(store: Store) -> None:
    started, unstarted = (
        one_at_a_time(store, 1),
        [store.enqueue(concurrency_key="l", concurrency=1)],
    )
    waiting = [one_at_a_time(store, 1)[0], store.enqueue(concurrency_key="l", concurrency=1)]
    worker = store.worker()
    worker.exchange(capacity={"threads": 1})
    worker.exchange(capacity={"threads": 1}, start=False)
    assert states(store, started + unstarted) == ["running", "running"]
    worker.die()
    store.recover()
    assert states(store, started + unstarted) == ["ready", "ready"], "the older ones are next again"
    assert states(store, waiting) == ["blocked", "blocked"]


def test_a_blocked_job_holds_up_no_other(store: Store) -> None:
    one_at_a_time(store, 50, priority=100)
    free = store.enqueue(priority=-100)
    worker = store.worker()
    assert len(worker.claim(1)) == 1
    assert worker.claim_one().id == free.id


def test_the_next_job_of_a_key_is_by_priority_then_age(store: Store) -> None:
    worker = store.worker()
    one_at_a_time(store, 1)
    claim = worker.claim_one()
    low, high, later = (one_at_a_time(store, 1, priority=priority)[0] for priority in (0, 9, 9))
    order = []
    for _ in range(3):
        worker.finish(claim)
        claim = worker.claim_one()
        order.append(claim.id)
    assert order == [high.id, later.id, low.id]


def test_keys_and_their_numbers_are_apart(store: Store) -> None:
    for key, count in (("a", 1), ("b", 3)):
        for _ in range(5):
            store.enqueue(concurrency_key=key, concurrency=count)
    for _ in range(2):
        store.enqueue()
    assert len(store.worker().claim(99)) == 1 + 3 + 2


@pytest.mark.parametrize(("new", "running"), [(3, 3), (1, 2)])
def test_the_newest_job_sets_the_limit_of_its_key(store: Store, new: int, running: int) -> None:
    for _ in range(4):
        store.enqueue(concurrency_key="k", concurrency=2)
    worker = store.worker()
    worker.claim(9)
    store.enqueue(concurrency_key="k", concurrency=new)
    worker.claim(9)
    assert len(worker.held) == running
    while worker.held:
        worker.finish(next(iter(worker.held.values())))
        worker.claim(9)
        assert len(worker.held) <= new
    assert store.engine.count()[JobStatus.SUCCESSFUL] == 5


@pytest.mark.parametrize("state", ["ready", "blocked", "scheduled"])
def test_a_cancel_gives_the_place_to_the_next(store: Store, state: str) -> None:
    first, second = one_at_a_time(store, 2)
    third = store.enqueue(concurrency_key="k", concurrency=1, run_after=START + 60)
    store.engine.cancel({"ready": first, "blocked": second, "scheduled": third}[state].id)
    worker = store.worker()
    following = second if state == "ready" else first
    assert [claim.id for claim in worker.claim(9)] == [following.id]


def test_a_job_that_comes_due_waits_for_its_limit(store: Store) -> None:
    scheduled = store.enqueue(concurrency_key="k", concurrency=1, run_after=START + 5, priority=9)
    (now,) = one_at_a_time(store, 1)
    assert states(store, [scheduled, now]) == ["scheduled", "ready"]
    store.clock.tick(5)
    worker = store.worker()
    worker.sqlite_store.promote()
    assert states(store, [scheduled, now]) == ["blocked", "ready"], "a place is not taken away"
    worker.finish(worker.claim_one())
    assert worker.claim_one().id == scheduled.id


def test_a_paused_queue_gives_its_capacity_to_others(store: Store) -> None:
    (held,) = one_at_a_time(store, 1, queue_name="a")
    (other,) = one_at_a_time(store, 1, queue_name="b")
    assert states(store, [held, other]) == ["ready", "blocked"]
    store.engine.pause("a")
    assert states(store, [held, other]) == ["blocked", "ready"]
    store.engine.resume("a")
    assert states(store, [held, other]) == ["blocked", "ready"]
    worker = store.worker()
    worker.finish(worker.claim_one())
    assert worker.claim_one().id == held.id


def test_a_job_put_back_into_a_paused_queue_takes_no_capacity(store: Store) -> None:
    (first,) = one_at_a_time(store, 1, queue_name="a")
    worker = store.worker()
    claim = worker.claim_one()
    store.engine.pause("a")
    (other,) = one_at_a_time(store, 1, queue_name="b")
    worker.give_back(claim)
    assert states(store, [first, other]) == ["blocked", "ready"]


def test_a_resumed_queue_uses_the_free_capacity(store: Store) -> None:
    store.engine.pause("a")
    (first,) = one_at_a_time(store, 1, queue_name="a")
    rated = store.enqueue(queue_name="a", rate_key="r", rate=Rate(1, 10))
    assert states(store, [first, rated]) == ["blocked", "throttled"]
    store.engine.resume("a")
    assert states(store, [first, rated]) == ["ready", "ready"]


# --- rates ---------------------------------------------------------------------------------------


def rated(store: Store, count: int, rate: Rate, key: str = "r") -> list[JobRecord]:
    """So many jobs of one key."""
    return [store.enqueue(rate_key=key, rate=rate) for _ in range(count)]


def test_no_window_sees_more_starts_than_the_rate(store: Store) -> None:
    """Wherever the window begins: strict, not reset by the clock."""
    rate = Rate(3, 10)
    rated(store, 40, rate)
    worker = store.worker()
    random.seed(1)
    starts: list[float] = []
    for _ in range(2000):
        worker.sqlite_store.promote()
        starts += [store.clock()] * len(worker.claim(random.randrange(3)))
        for claim in list(worker.held.values()):
            worker.finish(claim)
        store.clock.tick(random.uniform(0, 1.5))
        if len(starts) == 40:
            break
    assert len(starts) == 40
    for number, start in enumerate(starts):
        within = [other for other in starts[: number + 1] if other > start - rate.window_seconds]
        assert len(within) <= rate.count


def run_at_full_speed(store: Store, worker: Worker, count: int, *, finish: bool) -> list[float]:
    """The moments of so many starts, when the worker sleeps until next_due() says so."""
    starts: list[float] = []
    while len(starts) < count:
        claims = worker.claim(9)
        starts += [store.clock() - START] * len(claims)
        for claim in claims if finish else []:
            worker.finish(claim)
        due = worker.sqlite_store.next_due()
        if len(starts) < count and not claims:
            assert due is not None, "no worker will look again"
            store.clock.now = max(due, store.clock())
            worker.sqlite_store.promote()
    return starts


@pytest.mark.parametrize("finish", [True, False])
def test_the_next_start_comes_as_early_as_it_may(store: Store, finish: bool) -> None:
    """Also while those before still run: next_due() says when to look."""
    rated(store, 7, Rate(2, 10))
    assert run_at_full_speed(store, store.worker(), 7, finish=finish) == [
        *(0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 30.0),
    ]


def test_a_start_that_was_given_back_did_not_happen(store: Store) -> None:
    first, second = rated(store, 2, Rate(1, 10))
    worker = store.worker()
    worker.give_back(worker.claim_one())
    assert states(store, [first, second]) == ["ready", "throttled"]
    assert store.query("SELECT * FROM starts") == []
    worker.give_back(worker.claim_one(), delay=60.0)
    assert worker.claim_one().id == second.id


def test_an_attempt_that_crashed_has_started(store: Store) -> None:
    first, second = rated(store, 2, Rate(1, 10))
    worker = store.worker()
    worker.claim_one()
    worker.die()
    store.recover()
    assert states(store, [first, second]) == ["throttled", "throttled"]
    other = store.worker()
    store.clock.tick(10)
    other.sqlite_store.promote()
    assert [claim.id for claim in other.claim(9)] == [first.id]


def test_a_cancelled_job_frees_capacity(store: Store) -> None:
    first, second = rated(store, 2, Rate(1, 10))
    store.engine.cancel(first.id)
    assert store.worker().claim_one().id == second.id


def test_two_rates_are_independent(store: Store) -> None:
    for key, rate in (("a", Rate(1, 10)), ("b", Rate(2, 5))):
        rated(store, 5, rate, key)
    worker = store.worker()
    assert len(worker.claim(99)) == 3
    assert worker.sqlite_store.next_due() == START + 5
    store.clock.tick(5)
    worker.sqlite_store.promote()
    assert len(worker.claim(99)) == 2
    assert worker.sqlite_store.next_due() == START + 10


def test_both_limits_hold_at_once(store: Store) -> None:
    records = [
        store.enqueue(concurrency_key="k", concurrency=2, rate_key="r", rate=Rate(3, 10))
        for _ in range(5)
    ]
    worker = store.worker()
    assert len(worker.claim(9)) == 2
    for claim in list(worker.held.values()):
        worker.finish(claim)
    assert states(store, records)[2:] == ["ready", "throttled", "blocked"]
    worker.finish(worker.claim_one())
    assert worker.claim(9) == []
    store.clock.tick(10)
    worker.sqlite_store.promote()
    assert len(worker.claim(9)) == 2


@pytest.mark.parametrize("step", [-3600.0, -86_400.0, 3600.0, 86_400.0])
def test_rates_go_on_after_the_clock_is_set(store: Store, step: float) -> None:
    rated(store, 3, Rate(1, 10))
    worker = store.worker()
    worker.claim_one()
    store.clock.tick(step)
    due = worker.sqlite_store.next_due()
    assert due is not None
    assert due <= store.clock() + 10
    for latest in (10, 20):
        for _ in range(2):  # the first look finds that the clock was set
            store.clock.now = max(worker.sqlite_store.next_due() or 0.0, store.clock())
            worker.sqlite_store.promote()
        worker.claim_one()
        assert abs(store.clock() - START - step) <= latest


@pytest.mark.parametrize("back", [1.0, 3.0, 9.0, 3600.0])
def test_a_clock_that_is_set_back_lets_no_job_start_too_early(store: Store, back: float) -> None:
    """The start was before now, whatever the clock said of it."""
    rated(store, 2, Rate(1, 10))
    worker = store.worker()
    worker.claim_one()
    store.clock.tick(2 - back)
    worker.sqlite_store.promote()
    for seconds, started in ((7.5, 0), (2.5, 1)):
        assert worker.claim(9) == []
        store.clock.tick(seconds)
        worker.sqlite_store.promote()
        assert len(worker.claim(9)) == started


def test_what_is_kept_of_a_key_goes_with_its_last_job(store: Store) -> None:
    """A key may be a user's id: they must not pile up."""
    for number in range(5):
        store.enqueue(concurrency_key=f"user:{number}", concurrency=1)
        rated(store, 1, Rate(1, 3600), f"user:{number}")
    worker = store.worker()
    for claim in worker.claim(99):
        worker.finish(claim)
    assert store.query("SELECT count(*) FROM limits") == [(10,)]
    store.clock.tick(KEEP.successful)
    prune(store.engine, keep_count=1000)
    assert store.query("SELECT count(*) FROM jobs") == [(0,)]
    assert store.query("SELECT kind FROM limits") == [("rate",)] * 5, "their windows go on"
    rated(store, 1, Rate(1, 3600), "user:0")
    assert worker.claim(99) == [], "the start of a job that is gone still counts"
    due = worker.sqlite_store.next_due()
    assert due == START + 3600
    store.clock.now = due
    worker.sqlite_store.promote()
    assert len(worker.claim(99)) == 1
    assert store.query("SELECT key FROM limits") == [("user:0",)]
    assert store.query("SELECT rate_key FROM starts") == [("user:0",)]
    assert worker.sqlite_store.next_due() is None


def test_a_failed_job_keeps_its_key_for_a_retry(store: Store) -> None:
    records = one_at_a_time(store, 2)
    worker = store.worker()
    for _ in records:
        worker.finish(worker.claim_one(), Ending.FAILED)
    store.clock.tick(KEEP.successful)
    prune(store.engine, keep_count=1000)
    for record in records:
        store.engine.retry(record.id)
    assert states(store, records) == ["ready", "blocked"]
