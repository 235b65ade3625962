"""What the store does as time passes: due jobs, schedules, retention, and a clock that is set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from flask_offload.admin.sqlite_pruning import prune_finished
from flask_offload.engines.base import JobQuery
from flask_offload.engines.schedules import ScheduleSpec
from flask_offload.engines.sqlite import claims, maintenance
from flask_offload.engines.sqlite.maintenance import (
    BATCH,
    LONG_LOG,
    give_space_back,
    known_files,
    prune,
)
from flask_offload.engines.store import Pruned
from flask_offload.errors import JobNotFound
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.job import JobRecord, JobStatus
from flask_offload.jobs.rate import Rate
from store_support import KEEP, START, Store, new_job, next_tick, tick

HOUR, DAY = 3600.0, 86_400.0


def jobs_and_more(pruned: Pruned) -> tuple[int, bool]:
    return pruned.jobs, pruned.has_more


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path)) as made:
        yield made


# --- due -----------------------------------------------------------------------------------------


def test_a_scheduled_job_waits_for_its_moment(store: Store) -> None:
    later, sooner = store.enqueue(run_after=START + 20), store.enqueue(run_after=START + 10)
    worker = store.worker()
    assert worker.sqlite_store.next_due() == START + 10
    for seconds, expected in ((9.9, []), (0.1, [sooner.id]), (9.9, []), (0.1, [later.id])):
        store.clock.tick(seconds)
        worker.sqlite_store.promote()
        assert [claim.id for claim in worker.claim(9)] == expected
    assert worker.sqlite_store.next_due() is None


def test_what_comes_due_has_the_age_of_its_enqueue(store: Store) -> None:
    scheduled = [store.enqueue(run_after=START + seconds) for seconds in (3, 2, 1)]
    urgent = store.enqueue(run_after=START + 3, priority=1)
    now = store.enqueue()
    store.clock.tick(3)
    worker = store.worker()
    worker.sqlite_store.promote()
    expected = [urgent, *scheduled, now]
    assert [claim.id for claim in worker.claim(9)] == [record.id for record in expected]


def test_due_jobs_are_promoted_in_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = claims.PROMOTE.replace(f"LIMIT {claims.PROMOTE_BATCH}", "LIMIT 3")
    assert statement != claims.PROMOTE
    monkeypatch.setattr(claims, "PROMOTE", statement)
    for number in range(7):
        store.enqueue(run_after=START + 7 - number)
    store.clock.tick(10)
    worker = store.worker()
    assert [worker.sqlite_store.promote() for _ in range(4)] == [3, 3, 1, 0]
    assert len(worker.claim(9)) == 7


@pytest.mark.parametrize("step", [HOUR, DAY])
def test_a_clock_set_forward_brings_jobs_forward_and_back_again(store: Store, step: float) -> None:
    """Moments are those of the wall clock: so say the moments that users give."""
    record = store.enqueue(run_after=START + step)
    worker = store.worker()
    store.clock.tick(-step)
    worker.sqlite_store.promote()
    assert worker.sqlite_store.next_due() == START + step
    assert store.state(record) == "scheduled"
    store.clock.tick(2 * step)
    worker.sqlite_store.promote()
    assert worker.claim_one().id == record.id


@pytest.mark.parametrize("step", [-HOUR, -DAY, HOUR, DAY])
def test_a_clock_that_is_set_takes_no_running_job_away(store: Store, step: float) -> None:
    """There is no lease that could run out."""
    record, unique = store.enqueue(), store.enqueue(unique_key="k")
    worker = store.worker()
    claim, other = worker.claim(2)
    store.clock.tick(step)
    worker.sqlite_store.promote()
    assert store.recover() == []
    assert prune(store.engine, keep_count=0).jobs == 0
    assert store.enqueue(unique_key="k").id == unique.id
    assert worker.finish(claim)
    assert worker.finish(other, Ending.RETRY)
    assert store.status(record) is JobStatus.SUCCESSFUL
    assert worker.claim_one().id == unique.id


# --- schedules -----------------------------------------------------------------------------------


def every(seconds: float, name: str = "s", catch_up: str = "all", **job: Any) -> ScheduleSpec:
    """A schedule by interval."""
    return ScheduleSpec(name, None, seconds, None, 0.0, catch_up, new_job(**job))


def fired(store: Store) -> int:
    """How many jobs there are."""
    return store.engine.count()[JobStatus.READY]


def test_a_schedule_starts_from_when_it_is_first_seen(store: Store) -> None:
    spec = every(60)
    assert tick(store.engine, spec, START) == []
    assert next_tick(store.engine, spec, START) == START + 60
    assert tick(store.engine, spec, START + 59.9) == []
    (job,) = tick(store.engine, spec, START + 60)
    assert tick(store.engine, spec, START + 60) == []
    assert store.get(job).enqueued_at == START + 60
    (info,) = store.engine.schedules()
    assert (info.name, info.task, info.last_run) == ("s", "app.task", START + 60)
    assert (info.last_job, info.next_run) == (job.id, START + 120)


@pytest.mark.parametrize(("catch_up", "expected"), [("all", 10), ("one", 1), ("none", 1)])
def test_what_was_missed_is_caught_up_with_as_declared(
    store: Store, catch_up: str, expected: int
) -> None:
    spec = every(60, catch_up=catch_up)
    tick(store.engine, spec, START)
    store.engine.close()
    assert len(tick(store.engine, spec, START + 600)) == expected
    assert tick(store.engine, spec, START + 600) == []


def test_a_schedule_declared_anew_fires_nothing_at_once(store: Store) -> None:
    tick(store.engine, every(60), START)
    assert tick(store.engine, every(30), START + 600) == []
    assert len(tick(store.engine, every(30), START + 630)) == 1


@pytest.mark.parametrize("step", [HOUR, DAY])
def test_a_clock_set_back_fires_no_time_twice(store: Store, step: float) -> None:
    spec = every(60)
    for seconds in range(0, 601, 60):
        tick(store.engine, spec, START + seconds)
    assert fired(store) == 10
    for now in (START + 600 - step, START + 540, START + 600):
        assert tick(store.engine, spec, now) == []
    assert len(tick(store.engine, spec, START + 660)) == 1
    assert next_tick(store.engine, spec, START + 660) == START + 720


def test_a_schedule_goes_on_after_a_clock_that_ran_ahead_by_years(store: Store) -> None:
    spec = every(60)
    tick(store.engine, spec, START)
    tick(store.engine, spec, START + 1000 * DAY)
    before = fired(store)
    assert tick(store.engine, spec, START) == []
    assert next_tick(store.engine, spec, START) == START + 60
    assert len(tick(store.engine, spec, START + 60)) == 1
    assert fired(store) == before + 1


def test_a_scheduled_unique_job_is_not_doubled(store: Store) -> None:
    spec = every(60, unique_key="k")
    tick(store.engine, spec, START)
    (first,) = tick(store.engine, spec, START + 60)
    assert tick(store.engine, spec, START + 120) == [], "the last one still waits"
    assert fired(store) == 1
    (info,) = store.engine.schedules()
    assert (info.last_run, info.last_job) == (START + 120, first.id)


def test_a_tick_whose_queue_is_new_is_served(store: Store) -> None:
    spec = every(60, queue_name="nightly")
    tick(store.engine, spec, START)
    (job,) = tick(store.engine, spec, START + 60)
    assert store.worker().claim_one().id == job.id


# --- retention -----------------------------------------------------------------------------------


def finished(store: Store, ending: Ending = Ending.SUCCESSFUL, **options: object) -> JobRecord:
    """A job that has run."""
    record = store.enqueue()
    worker = store.worker()
    worker.finish(worker.claim_one(), ending, **options)
    return record


def is_gone(store: Store, record: JobRecord) -> bool:
    try:
        store.get(record)
    except JobNotFound:
        return True
    return False


def test_each_status_is_kept_for_its_time(store: Store) -> None:
    successful, failed = finished(store), finished(store, Ending.FAILED)
    brief = finished(store, Ending.FAILED, keep=5.0)
    waiting = store.enqueue()
    for moment, gone in (
        (START + 4.9, []),
        (START + 5, [brief]),
        (START + KEEP.successful - 0.1, [brief]),
        (START + KEEP.successful, [brief, successful]),
        (START + KEEP.failed, [brief, successful, failed]),
        (START + 100 * KEEP.failed, [brief, successful, failed]),
    ):
        store.clock.now = moment
        prune(store.engine, keep_count=1000)
        assert [
            record for record in (brief, successful, failed, waiting) if is_gone(store, record)
        ] == gone


def test_no_more_than_so_many_are_kept(store: Store) -> None:
    """Those go first whose time would be over first."""
    old, kept = finished(store), finished(store, Ending.FAILED)
    waiting = [store.enqueue() for _ in range(5)]
    assert prune(store.engine, keep_count=2).jobs == 0
    assert prune(store.engine, keep_count=1).jobs == 1
    assert is_gone(store, old)
    assert not is_gone(store, kept)
    assert prune(store.engine, keep_count=0).jobs == 1
    assert not any(is_gone(store, record) for record in waiting)


def test_a_retried_job_is_not_pruned(store: Store) -> None:
    record = finished(store, Ending.FAILED)
    store.engine.retry(record.id)
    store.clock.tick(10 * KEEP.failed)
    assert prune(store.engine, keep_count=0).jobs == 0
    assert not is_gone(store, record)


def test_all_that_belongs_to_a_job_goes_with_it(store: Store) -> None:
    worker = store.worker()
    store.enqueue(args="x" * 1000, files=("f",), rate_key="r", rate=Rate(9, 1), concurrency_key="c")
    worker.finish(worker.claim_one(), Ending.RETRY)
    store.clock.tick(1)
    worker.sqlite_store.promote()
    worker.finish(worker.claim_one(), Ending.FAILED)
    finished(store, result='"x"')
    assert known_files(store.engine) == {"f"}
    store.clock.tick(KEEP.failed)
    pruned = prune(store.engine, keep_count=1000)
    assert (pruned.jobs, pruned.files) == (2, ["f"])
    for table in ("jobs", "payloads", "results", "attempts", "files", "limits", "starts"):
        assert store.query(f"SELECT * FROM {table}") == [], table
    assert known_files(store.engine) == set()


def test_a_result_may_go_before_its_job(store: Store) -> None:
    record = finished(store, result='"x"', result_ttl=10.0)
    other = finished(store, result='"y"')
    assert store.get(record).result == '"x"'
    store.clock.tick(10)
    assert store.get(record).result is None  # not only after the next pruning
    assert prune(store.engine, keep_count=1000).jobs == 0
    stored = store.get(record)
    assert (stored.status, stored.result) == (JobStatus.SUCCESSFUL, None)
    assert store.get(other).result == '"y"'


def test_pruning_goes_in_batches_and_reports_when_there_is_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [store.new() for _ in range(BATCH + 10)]
    store.engine.enqueue(jobs)
    store.execute("UPDATE jobs SET state = 'successful', finished_at = ?1, expires_at = ?1", START)
    store.execute("INSERT INTO results SELECT seq, '1', NULL FROM jobs")
    first, second, third = (prune(store.engine, keep_count=1000) for _ in range(3))
    assert (first.jobs, first.has_more) == (BATCH, True)
    assert (second.jobs, second.has_more) == (10, False)
    assert third == Pruned()
    assert store.query("SELECT count(*) FROM results") == [(0,)]
    store.engine.enqueue(jobs)
    store.execute("UPDATE jobs SET state = 'successful', finished_at = ?, expires_at = 1e11", START)
    store.execute("INSERT INTO results SELECT seq, '1', ? FROM jobs", START)
    assert [
        (p.jobs, p.has_more) for p in (prune(store.engine, keep_count=10_000) for _ in range(3))
    ] == [
        (0, True),
        (0, False),
        (0, False),
    ]
    monkeypatch.setattr(store.engine.database, "write", None)
    assert prune(store.engine, keep_count=10_000) == Pruned(), "it looks before it writes"


def test_finished_jobs_can_be_pruned_by_hand(store: Store) -> None:
    old = [finished(store), finished(store, Ending.FAILED)]
    store.clock.tick(50)
    new, waiting = finished(store), store.enqueue()
    gone, files, last = prune_finished(store.engine, START + 10)
    assert (gone, files) == (2, [])
    assert prune_finished(store.engine, START + 10, last)[0] == 0
    assert all(is_gone(store, record) for record in old)
    assert not is_gone(store, new)
    assert prune_finished(store.engine, store.clock())[0] == 1
    assert not is_gone(store, waiting)


# --- space ---------------------------------------------------------------------------------------


def fill(store: Store, count: int) -> None:
    """So many expired jobs with large arguments."""
    store.engine.enqueue([store.new(args="x" * 4000) for _ in range(count)])
    store.execute("UPDATE jobs SET state = 'failed', finished_at = ?1, expires_at = ?1", START)


def test_the_file_gives_its_space_back(store: Store) -> None:
    store.enqueue()
    store.engine.database.checkpoint()
    empty = store.path.stat().st_size
    fill(store, 400)
    store.engine.database.checkpoint()
    full = store.path.stat().st_size
    assert full > empty + 400 * 4000
    while prune(store.engine, keep_count=1000).has_more:
        pass
    bites = [give_space_back(store.engine, 100)]
    while bites[-1]:
        bites.append(give_space_back(store.engine, 100))
    assert len(bites) > 3, "in small bites"
    assert all(before - after == 100 for before, after in pairwise(bites[:-1]))
    store.engine.database.checkpoint()
    assert store.path.stat().st_size < empty + 100_000


def test_a_reserve_of_free_pages_stays(store: Store) -> None:
    fill(store, 100)
    prune(store.engine, keep_count=1000)
    ((free,),) = store.query("PRAGMA freelist_count")
    assert free > 50
    while give_space_back(store.engine, 10, reserve=50):
        pass
    assert store.query("PRAGMA freelist_count") == [(50,)]
    assert give_space_back(store.engine, 10, reserve=100) == 0
    assert store.query("PRAGMA freelist_count") == [(50,)]


def test_a_log_that_has_grown_is_given_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a long read, while which it could not begin anew."""
    monkeypatch.setattr(maintenance, "LONG_LOG", 100_000)
    log = store.path.with_name(store.path.name + "-wal")
    fill(store, 100)
    assert log.stat().st_size > 100_000
    assert LONG_LOG > 4096 * 1000, "SQLite's own mark"
    assert give_space_back(store.engine) == 0
    assert log.stat().st_size == 0
    assert len(store.engine.list(JobQuery(limit=1000))) == 100


def test_a_reader_does_not_make_a_checkpoint_wait(store: Store) -> None:
    """Else all writers would wait for it."""
    fill(store, 10)
    with closing(Store(store.path.parent)) as other:

        def work(connection: object) -> None:
            fill(store, 10)
            store.engine.database._busy_timeout = 1000.0  # waiting, if it did, would never end
            store.engine.database.checkpoint()

        other.engine.database.read(work)
    assert store.engine.count()[JobStatus.FAILED] == 20
