"""What the dashboard asks the SQL stores: pages of jobs, failures, counters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from flask_offload.engines import counters
from flask_offload.engines.base import JobQuery
from flask_offload.errors import EngineUnavailable
from flask_offload.jobs.attempt import Ending
from flask_offload.jobs.job import Error, JobRecord, JobStatus
from postgres_model_store import PostgresModelStore
from postgres_server import PostgresServer, shared_server
from store_support import START, Store, Worker
from support import wait_until


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.processes)]
)
def server(request: pytest.FixtureRequest) -> PostgresServer | None:
    """The server of this process, for the tests with PostgreSQL."""
    return shared_server() if request.param == "postgres" else None


@pytest.fixture
def store(server: PostgresServer | None, tmp_path: Path) -> Iterator[Store]:
    if server is None:
        with closing(Store(tmp_path)) as made:
            yield made
    else:
        with server.database() as url, closing(PostgresModelStore(url)) as made:
            yield made


def listed(store: Store, look: int = 1000, **query: Any) -> list[str]:
    return [record.id for record in store.engine.page(JobQuery(**query), look).jobs]


def note(worker: Worker) -> None:
    """Let the worker write its counters, as it does once a second."""
    worker.sqlite_store.recover()


def fail(store: Store, error: str = "ValueError", message: str = "no", **options: Any) -> JobRecord:
    record = store.enqueue(**options)
    worker = store.worker()
    claim = worker.claim_one()
    worker.finish(claim, Ending.FAILED, error=Error(error, message, "Traceback …"))
    worker.close()
    return store.get(record)


def test_pages_follow_each_other_by_key(store: Store) -> None:
    made = [store.enqueue().id for _ in range(10)]
    seen: list[str] = []
    query = JobQuery(limit=4)
    while True:
        page = store.engine.page(query)
        seen += [record.id for record in page.jobs]
        store.enqueue()
        if page.next is None:
            break
        query = msgspec.structs.replace(query, after=page.next)
    assert seen == made[::-1]


@pytest.mark.parametrize("status", list(JobStatus))
def test_each_status_has_its_jobs_newest_first(store: Store, status: JobStatus) -> None:
    found: dict[JobStatus, list[str]] = {each: [] for each in JobStatus}
    for _ in range(3):
        for ending in (Ending.SUCCESSFUL, Ending.FAILED, Ending.CANCELLED, None):
            record = store.enqueue(priority=5)
            worker = store.worker()
            claim = worker.claim_one()
            if ending is not None:
                worker.finish(claim, ending)
            found[ending.status if ending else JobStatus.RUNNING].append(record.id)
        for later in (None, START + 1000):
            found[JobStatus.READY].append(store.enqueue(run_after=later).id)
    assert listed(store, status=status) == found[status][::-1]
    some = store.engine.page(JobQuery(status=status, limit=2))
    rest = listed(store, status=status, after=some.next)
    assert [*(record.id for record in some.jobs), *rest] == found[status][::-1]


@pytest.mark.parametrize("status", [JobStatus.READY, JobStatus.RUNNING])
def test_more_jobs_of_a_status_than_are_looked_at(store: Store, status: JobStatus) -> None:
    made = [store.enqueue().id for _ in range(8)]
    if status is JobStatus.RUNNING:
        store.worker().claim(8)
    page = store.engine.page(JobQuery(status=status), 5)
    assert page.is_partial
    assert [record.id for record in page.jobs] == made[:2:-1]
    assert listed(store, 5, status=status, after=page.next) == made[2::-1]


def test_the_look_is_bounded_and_says_so(store: Store) -> None:
    wanted = store.enqueue(task="app.wanted")
    for _ in range(10):
        store.enqueue()
    page = store.engine.page(JobQuery(task="app.wanted"), 4)
    assert (page.jobs, page.is_partial) == ([], True)
    page = store.engine.page(JobQuery(task="app.wanted", after=page.next), 4)
    assert (page.jobs, page.is_partial) == ([], True)
    page = store.engine.page(JobQuery(task="app.wanted", after=page.next), 4)
    assert ([record.id for record in page.jobs], page.next) == ([wanted.id], None)


def test_matching_jobs_are_counted_without_being_listed(store: Store) -> None:
    for number in range(6):
        store.enqueue(task="app.a" if number % 2 else "app.b")
    assert store.engine.matching(JobQuery(task="app.a")) == (3, False)
    assert store.engine.matching(JobQuery(task="app.a"), 4) == (2, True)
    assert store.engine.matching(JobQuery(status=JobStatus.FAILED)) == (0, False)


def test_text_is_found_in_arguments_errors_and_messages(store: Store) -> None:
    small = store.enqueue(args='["100 % Größe"]').id
    large = store.enqueue(args=f'["{"x" * 2000} needle"]').id
    failed = fail(store, "KeyError", "no Needle_here", priority=9).id
    assert listed(store, text="größe" if isinstance(store, PostgresModelStore) else "Größe") == [
        small
    ]
    assert listed(store, text="NEEDLE") == [failed, large]
    assert listed(store, text="needle_") == [failed]
    assert listed(store, text="keyerror") == [failed]
    assert listed(store, text="100 %") == [small]
    for odd in ("\0", "\\", "'", "%", "_", "?"):
        listed(store, text=odd)
    assert listed(store, text="_%_") == []


def test_the_time_is_that_of_the_enqueueing(store: Store) -> None:
    made = []
    for _ in range(6):
        made.append(store.enqueue().id)
        store.clock.tick(100)
    assert listed(store, since=START + 200, until=START + 400) == [made[3], made[2]]
    assert listed(store, since=START + 10_000) == []
    assert listed(store, until=START) == []
    assert listed(store, since=0, until=START + 10_000) == made[::-1]


def test_failures_are_grouped_by_task_and_error(store: Store) -> None:
    for number in (1, 2):
        fail(store, "ValueError", f"order {number}", task="app.pay")
    fail(store, "KeyError", "x", task="app.pay")
    last = fail(store, "ValueError", "y", task="app.mail")
    groups = store.engine.failures()
    assert [(g.task, g.error, g.count, g.message) for g in groups] == [
        ("app.mail", "ValueError", 1, "y"),
        ("app.pay", "KeyError", 1, "x"),
        ("app.pay", "ValueError", 2, "order 2"),
    ]
    assert (groups[0].job_id, groups[0].at) == (last.id, START)
    assert listed(store, error="KeyError") == [groups[1].job_id]
    assert sum(group.count for group in store.engine.failures(2)) == 2


def test_who_is_first_in_line(store: Store) -> None:
    assert store.engine.waiting_since() is None
    store.clock.tick(100)
    store.enqueue(run_after=START + 500)
    assert store.engine.waiting_since() is None
    store.enqueue(queue_name="b", priority=7)
    store.clock.tick(100)
    store.enqueue(queue_name="a", priority=-3)
    assert store.engine.waiting_since() == START + 100
    store.engine.pause("b")
    assert store.engine.waiting_since() == START + 200


# --- counters ------------------------------------------------------------------------------------


def test_times_of_enqueues_go_along_with_a_later_one(store: Store) -> None:
    assert store.engine.enqueue_times().calls == 0
    store.engine.enqueue([store.new(), store.new()])
    assert store.engine.enqueue([]) == []
    store.enqueue()  # writes the one before
    times = store.engine.enqueue_times()
    assert times.calls == sum(times.up_to) == 1
    assert times.seconds > 0
    store.clock.tick(90_000)  # folded with the day
    with closing(store.worker()) as worker:
        note(worker)
    assert store.engine.enqueue_times() == times
    assert list(store.engine.totals()) == []  # of attempts
    assert list(store.engine.counters(START)) == []


def test_times_survive_an_enqueue_that_fails(tmp_path: Path) -> None:
    with closing(Store(tmp_path, busy_timeout=0.05)) as store:
        store.enqueue()
        with closing(apsw.Connection(str(store.path))) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(EngineUnavailable):
                store.enqueue()
            other.execute("ROLLBACK")
        wait_until(lambda: store.enqueue() and store.engine.enqueue_times().calls, 10, "written")


def test_attempts_are_counted_with_their_times(store: Store) -> None:
    for _ in range(3):
        store.enqueue(task="app.mail")
    store.clock.tick(20)
    worker = store.worker()
    for ending, lasts in ((Ending.SUCCESSFUL, 0.02), (Ending.SUCCESSFUL, 7), (Ending.RETRY, 1)):
        claim = worker.claim_one()
        store.clock.tick(lasts)
        worker.finish(claim, ending, after=10.0)
    note(worker)
    good, again = sorted(store.engine.totals(), key=lambda row: row.status, reverse=True)
    assert (good.task, good.ending, good.status) == (
        *("app.mail", Ending.SUCCESSFUL, JobStatus.SUCCESSFUL),
    )
    assert (good.attempts, good.starts) == (2, 2)
    assert good.ran == pytest.approx(7.02)
    assert good.waited == pytest.approx(40.02)
    assert sum(good.ran_up_to) == sum(good.waited_up_to) == 2
    assert [count for count in good.ran_up_to if count] == [1, 1]
    assert (again.ending, again.status, again.attempts) == (Ending.RETRY, JobStatus.READY, 1)
    assert [row.attempts for row in store.engine.counters(START)] == [1, 2]


def test_a_crash_is_counted_by_the_worker_that_finds_it(store: Store) -> None:
    store.enqueue(on_crash="fail")
    worker = store.worker()
    worker.claim_one()
    worker.die()
    store.recover()
    if not isinstance(store, PostgresModelStore):
        (row,) = store.engine.totals()
        assert (row.ending, row.status) == (Ending.CRASHED, JobStatus.FAILED)


def test_an_outcome_that_comes_too_late_is_not_counted(store: Store) -> None:
    store.enqueue()
    worker = store.worker()
    claim = worker.claim_one()
    assert worker.finish(claim)
    assert not worker.finish(claim)
    note(worker)
    assert [row.attempts for row in store.engine.totals()] == [1]


def test_old_minutes_are_folded_and_nothing_is_lost(store: Store) -> None:
    def run(count: int) -> None:
        worker = store.worker()
        for _ in range(count):
            store.enqueue()
            worker.finish(worker.claim_one())
        note(worker)
        worker.close()

    def fold() -> None:
        fresh = store.worker()  # a worker folds in its first pruning
        fresh.sqlite_store.prune()
        fresh.close()

    for minute in range(0, 60, 6):
        store.clock.now = START + 60 * minute
        run(1)
    before = store.engine.totals()
    assert len(store.engine.counters(START)) == 10
    store.clock.now = START + 4 * 3600
    fold()
    assert len(store.engine.counters(START)) == 6
    assert all(row.minute % counters.COARSE == 0 for row in store.engine.counters(START))
    fold()
    assert store.engine.totals() == before
    store.clock.now = START + 48 * 3600
    run(2)
    fold()
    assert [row.attempts for row in store.engine.counters(0)] == [2]
    (total,) = store.engine.totals()
    assert (total.attempts, sum(total.ran_up_to)) == (12, 12)
    [(rows,)] = store.query("SELECT count(*) FROM counters WHERE ending <> 'ENQUEUED'")
    assert rows == 2


def test_one_worker_is_asked_to_stop(store: Store) -> None:
    asked, other = store.worker(), store.worker()
    assert {info.id for info in store.engine.workers()} >= {asked.id, other.id}
    store.engine.stop_worker(asked.id)
    store.engine.stop_worker("unknown")
    assert asked.sqlite_store.is_asked_to_stop()
    assert not other.sqlite_store.is_asked_to_stop()
