"""OFFLOAD_ALERT: called when a task begins to fail, at powers of ten, and when it recovers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from engine_apps import EngineApp
from flask_offload import Alert, ConfigError, JobStatus, Offload, current_job
from flask_offload.engines.store import Retention, Store, StoreOptions
from flask_offload.jobs.attempt import Ending, Outcome
from flask_offload.jobs.job import Error
from flask_offload.jobs.new_job import THREADS
from flask_offload.testing import drain
from postgres_server import shared_server
from small_site import SmallSite, small_site
from support import wait_until

ENGINES = ("sqlite", pytest.param("postgres", marks=pytest.mark.processes))

ALERTS: list[Alert] = []


def tell(alert: Alert) -> None:
    """What apps name."""
    ALERTS.append(alert)


@pytest.fixture(scope="module", params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each engine that has the flag."""
    name: str = request.param
    if name == "postgres":
        shared_server()
    return name


class Shop(EngineApp):
    """An app with a task that fails or not, as its argument says."""

    def __init__(self, folder: Path, engine: str, alert: Any) -> None:
        super().__init__(folder, engine, OFFLOAD_ALERT=alert)

        @self.offload.task(max_attempts=2, backoff=0, name="work")
        def work(how: str) -> None:
            if how == "fail" or (how == "retry" and current_job.attempt == 1):
                raise ConnectionError("no route")

        self.work = work

    def run(self, *hows: str) -> list[str]:
        """Run these jobs, one after the other; their ids."""
        ids = []
        for how in hows:
            ids.append(self.work.enqueue(how).id)
            self.drain()
        return ids


@pytest.fixture
def shop(engine_name: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop that calls `tell`."""
    ALERTS.clear()
    made = Shop(tmp_path, engine_name, tell)
    try:
        yield made
    finally:
        made.close()


def seen() -> list[tuple[int, bool]]:
    """Count and is_recovered of the alerts so far."""
    return [(alert.count, alert.is_recovered) for alert in ALERTS]


def test_it_is_called_at_the_first_failure_and_at_powers_of_ten(shop: Shop) -> None:
    ids = shop.run(*["fail"] * 23)
    assert seen() == [(1, False), (10, False)]
    first, tenth = ALERTS
    assert (first.task, first.job_id, tenth.job_id) == ("work", ids[0], ids[9])
    assert first.error is not None
    assert (first.error.type, first.error.message) == ("ConnectionError", "no route")
    (last,) = shop.run("well")
    assert ALERTS[2:] == [Alert("work", 23, last, None, True)]
    shop.run("well", "fail")
    assert seen()[3:] == [(1, False)]


def test_repeated_and_cancelled_jobs_are_no_failures(shop: Shop) -> None:
    shop.run("retry", "well", "retry")
    job = shop.work.enqueue("fail")
    job.cancel()
    shop.drain()
    assert job.refresh().status is JobStatus.CANCELLED
    assert ALERTS == []


def test_tasks_are_counted_each_for_itself(shop: Shop) -> None:
    @shop.offload.task(name="other")
    def other() -> None:
        raise ValueError

    other.enqueue()
    shop.run("fail", "well")
    assert [(alert.task, alert.is_recovered) for alert in ALERTS] == [
        ("other", False),
        ("work", False),
        ("work", True),
    ]


def test_a_job_that_is_retried_by_hand_is_a_recovery(shop: Shop) -> None:
    broken = [True]

    @shop.offload.task(name="sync")
    def sync() -> None:
        if broken:
            raise ValueError

    job = sync.enqueue()
    shop.drain()
    broken.clear()
    job.retry()
    shop.drain()
    assert seen() == [(1, False), (1, True)]
    assert {alert.job_id for alert in ALERTS} == {job.id}


def test_an_alert_that_raises_is_tried_again_and_makes_no_alerts(
    engine_name: str, tmp_path: Path
) -> None:
    tries: list[int] = []

    async def refuse(alert: Alert) -> None:
        tries.append(alert.count)
        raise ConnectionError

    shop = Shop(tmp_path, engine_name, refuse)
    try:
        shop.run("fail")
        assert tries == [1] * 10
        (job,) = shop.offload.jobs(task="flask_offload.alert")
        assert (job.status, job.origin) == (JobStatus.FAILED, "alert")
    finally:
        shop.close()


@pytest.mark.parametrize("by_name", [False, True])
def test_a_task_is_enqueued_with_its_own_options(
    engine_name: str, tmp_path: Path, by_name: bool
) -> None:
    offload, got = Offload(), list[Alert]()

    @offload.task(name="page", queue_name="urgent")
    def page(alert: Alert) -> None:
        got.append(alert)
        raise ValueError("its own failure calls nothing")

    with ExitStack() as stack:
        app = Flask("pager", instance_path=str(tmp_path))
        app.config.update(
            TESTING=True,
            OFFLOAD_ENGINE=engine_name,
            OFFLOAD_WORKER="off",
            OFFLOAD_SQLITE_PATH=str(tmp_path / "jobs.sqlite3"),
            OFFLOAD_ALERT="page" if by_name else page,
        )
        if engine_name == "postgres":
            url = stack.enter_context(shared_server().database())
            app.config["OFFLOAD_POSTGRES_URL"] = url

        @offload.task(name="work")
        def work() -> None:
            raise LookupError("gone")

        offload.init_app(app)
        with app.app_context():
            job = work.enqueue()
            drain(app)
            assert [(one.task, one.job_id) for one in got] == [("work", job.id)]
            assert got[0].error is not None
            assert got[0].error.type == "LookupError"
            (paged,) = offload.jobs(task="page")
            assert (paged.queue_name, paged.status) == ("urgent", JobStatus.FAILED)
        offload.state_of(app).engine.close()


# --- several workers, in any order of their transactions ----------------------------------------


def outcomes(claims: list[Any], ending: Ending) -> list[Outcome]:
    """How these claims ended, one after the other."""
    error = Error("ValueError", "no") if ending is Ending.FAILED else None
    at = time.time()
    return [
        Outcome(claim.seq, claim.attempt, ending, at + number, at + number, error=error)
        for number, claim in enumerate(claims)
    ]


OPTIONS = StoreOptions(
    kind="test",
    retention=Retention(60, 60, 1000, silent=frozenset({"flask_offload.alert"})),
    places=20,
    capacity=20,
)


def test_several_workers_share_one_count(shop: Shop) -> None:
    stores: list[Store] = [shop.engine.open_store(OPTIONS) for _ in range(3)]
    try:
        for _ in range(5 * len(stores)):
            shop.work.enqueue("fail")
        held = [list(store.exchange([], {THREADS: 5}).claims) for store in stores]
        for store, claims in zip(stores, held, strict=True):
            store.exchange(outcomes(claims[:4], Ending.FAILED), {})
        for store, claims in zip(stores, held, strict=True):
            assert store.exchange(outcomes(claims[4:], Ending.SUCCESSFUL), {}).refused == []
            assert store.exchange(outcomes(claims[:4], Ending.FAILED), {}).refused, "too late"
    finally:
        for store in stores:
            store.close()
    shop.drain()
    assert sorted(seen()) == [(1, False), (10, False), (12, True)]


def test_what_ends_in_one_exchange_is_counted_in_the_order_of_its_ends(shop: Shop) -> None:
    for _ in range(3):
        shop.work.enqueue("fail")
    store = shop.engine.open_store(OPTIONS)
    try:
        claims = store.exchange([], {THREADS: 3}).claims
        ends = outcomes(claims, Ending.FAILED)
        ends[1].ending, ends[1].error = Ending.SUCCESSFUL, None
        store.exchange(ends, {})
    finally:
        store.close()
    shop.drain()
    assert sorted(seen()) == [(1, False), (1, False), (1, True)]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 5, "", ["tell"]])
def test_a_value_that_can_t_be_used_is_refused(tmp_path: Path, value: object) -> None:
    app = Flask("shop", instance_path=str(tmp_path))
    app.config.update(TESTING=True, OFFLOAD_ALERT=value)
    with pytest.raises(ConfigError, match=r"OFFLOAD_ALERT = .*it takes a function, a task, or"):
        Offload(app)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_module.tell", "neither a task's name nor can it be imported"),
        ("os.sep", "is str, which can't be called: name a function or a task"),
    ],
)
def test_a_name_that_leads_nowhere_is_found_by_the_check(
    tmp_path: Path, name: str, sentence: str
) -> None:
    shop = Shop(tmp_path, "sqlite", name)
    try:
        problems = [one.message for one in shop.offload.health() if one.level == "problem"]
        assert any(name in text and sentence in text for text in problems)
        (job_id,) = shop.run("fail")
        (alert,) = shop.offload.jobs(task="flask_offload.alert")
        assert shop.offload.get_job(job_id).status is JobStatus.FAILED, "jobs run nevertheless"
        assert alert.status is JobStatus.FAILED
        assert alert.error is not None
        assert sentence in alert.error.message
    finally:
        shop.close()


def test_the_inline_engine_ignores_it(tmp_path: Path) -> None:
    app = Flask("shop", instance_path=str(tmp_path))
    app.config.update(TESTING=True, OFFLOAD_ALERT=tell, OFFLOAD_ENGINE="inline")
    Offload(app)


# --- a real worker ------------------------------------------------------------------------------

SHOP = """
import os, signal
from flask import Flask
from flask_offload import Offload

app, offload = Flask(__name__), Offload()

def tell(alert):
    with open(os.environ["JOURNAL"], "a") as file:
        what = "well" if alert.is_recovered else alert.error.type
        file.write(f"{alert.task} {alert.count} {what}\\n")

@offload.task(on_crash="fail")
def work(how):
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        raise ValueError

app.config.from_prefixed_env()
app.config["OFFLOAD_ALERT"] = tell
offload.init_app(app)
"""


@pytest.fixture(name="site")
def site_fixture(engine_name: str, tmp_path: Path) -> Iterator[SmallSite]:
    """The shop, for worker processes."""
    with ExitStack() as stack:
        environ = {"JOURNAL": str(tmp_path / "journal"), "FLASK_OFFLOAD_ENGINE": engine_name}
        if engine_name == "postgres":
            url = stack.enter_context(shared_server().database())
            environ["FLASK_OFFLOAD_POSTGRES_URL"] = url
        yield stack.enter_context(small_site(tmp_path, SHOP, **environ))


def lines(site: SmallSite) -> list[str]:
    """What OFFLOAD_ALERT has been called with, and by no job that still waits."""
    with site.app.app_context():
        counts = site.offload.count()
    waiting = counts[JobStatus.READY] + counts[JobStatus.RUNNING]
    journal = site.folder / "journal"
    return journal.read_text().splitlines() if journal.exists() and not waiting else []


@pytest.mark.processes
def test_the_count_outlives_workers(site: SmallSite) -> None:
    with site.worker():
        site.enqueue("work", "crash", on_crash="fail")
        wait_until(lambda: len(lines(site)) == 1, 30, "the first failure is made known")
    with site.worker():
        for _ in range(9):
            site.enqueue("work", "fail")
        wait_until(lambda: len(lines(site)) == 2, 30, "the tenth is")
        site.enqueue("work", "well")
        wait_until(lambda: len(lines(site)) == 3, 30, "the success is")
    assert lines(site) == ["shop.work 1 WorkerDied", "shop.work 10 ValueError", "shop.work 10 well"]


@pytest.mark.processes
def test_several_worker_processes_call_it_once(site: SmallSite) -> None:
    """Ten jobs for each of three workers' four threads, in any order: each alert comes once."""
    with ExitStack() as workers:
        for _ in range(3):
            workers.enter_context(site.worker())
        for _ in range(120):
            site.enqueue("work", "fail")
        wait_until(lambda: len(lines(site)) >= 3, 60, "all have failed")
        site.enqueue("work", "well")
        wait_until(lambda: len(lines(site)) >= 4, 30, "the success is made known")
    assert sorted(lines(site)) == [
        "shop.work 1 ValueError",
        "shop.work 10 ValueError",
        "shop.work 100 ValueError",
        "shop.work 120 well",
    ]
