"""When Redis, RabbitMQ or the network fails: what senders get, and that no job is lost.

Each failure test prints its account: how every job ended, and how often it ran.
"""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import celery_app
from brokers import Rabbit, Redis, Server, serving
from celery_fixtures import rabbit, worker_process  # noqa: F401 (fixtures)
from celery_server import CelerySite, make_site
from flask_offload import JobNotFound, JobStatus
from flask_offload.errors import EngineUnavailable
from flask_offload_celery.maintenance import BATCH, OVERTAKEN, UNSEEN
from proc import descendants
from support import free_port, kill9, running, wait_until
from worker_process import Workshop

BOUND = 2.0
"""OFFLOAD_ENQUEUE_TIMEOUT, as it is by default."""
SLACK = 1.5
"""Seconds that a busy machine may take longer to run the few lines around a call."""


# kombu lets a connection that has died go without closing it
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def redis(processes: None, tmp_path: Path) -> Iterator[Server]:
    """For the test alone, which may kill it."""
    with serving(Redis, tmp_path / "redis") as server:
        yield server


@pytest.fixture(params=["redis", "rabbit"])
def broker(request: pytest.FixtureRequest, redis: Server, rabbit: Server) -> Server:  # noqa: F811
    """Each in turn, not to be killed; the records are always on Redis."""
    return {"redis": redis, "rabbit": rabbit}[request.param]


@pytest.fixture(params=["redis", "rabbit"])
def mortal(
    processes: None, request: pytest.FixtureRequest, tmp_path: Path, redis: Server
) -> Iterator[Server]:
    """The same, to be killed."""
    if request.param == "redis":
        yield redis
    else:
        with serving(Rabbit, tmp_path / "rabbit") as server:
            yield server


def _refused_within_bound() -> str:
    """Enqueue, and expect EngineUnavailable in time; its message."""
    began = time.monotonic()
    with pytest.raises(EngineUnavailable) as raised:
        celery_app.add.enqueue(1, 2)
    assert time.monotonic() - began < BOUND + SLACK
    return str(raised.value)


def test_celerys_own_commands_reach_a_worker(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    broker: Server,
    worker_process: Workshop,  # noqa: F811
) -> None:
    """Its mailbox is not the one that Celery would have made."""
    ping = [sys.executable, "-m", "celery", "--broker", broker.url, "inspect", "ping"]
    with (
        make_site(tmp_path, monkeypatch, redis, broker) as site,
        site.worker(worker_process),
        running(ping) as process,
    ):
        process.wait_for("1 node online", 30)
    assert f"@{socket.gethostname()}: OK" in process.output()


# --- what a sender gets --------------------------------------------------------------------------


def test_without_redis_enqueue_fails_in_time_and_works_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    with make_site(tmp_path, monkeypatch, redis) as site:
        celery_app.add.enqueue(1, 2)
        redis.kill()
        assert "OFFLOAD_CELERY_RECORDS" in _refused_within_bound()
        with pytest.raises(EngineUnavailable):
            site.offload.get_job("f" * 44)
        redis.start()
        job = celery_app.add.enqueue(3, 4)
        assert job.refresh().status is JobStatus.READY
        with pytest.raises(JobNotFound):  # unknown is unknown, and never READY
            site.offload.get_job("f" * 44)


def test_a_host_that_does_not_answer_delays_no_call_longer_than_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server, broker: Server
) -> None:
    with make_site(tmp_path, monkeypatch, redis, broker) as site:
        job = celery_app.add.enqueue(1, 2)
        with broker.frozen():
            _refused_within_bound()
            if broker is not redis:  # the status of jobs is in Redis
                assert job.refresh().status is JobStatus.READY
            began = time.monotonic()
            for _ in range(20):  # while that call hangs, others need not wait for the same
                _refused_within_bound()
            assert time.monotonic() - began < 3 * BOUND
        # what was refused is withdrawn, even if the host had accepted it before
        wait_until(lambda: _works(), 30, "the way to be open again")
        wait_until(lambda: site.engine.count()[JobStatus.READY] == 2, 30)


def _said(site: CelerySite, check: str) -> str:
    """What `flask offload check` says of this."""
    return next(found.message for found in site.engine.findings() if found.check == check)


def _works() -> bool:
    try:
        celery_app.add.enqueue(5, 6)
    except EngineUnavailable:
        return False
    return True


def test_a_broker_that_does_not_exist_is_reported_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = Redis(tmp_path, free_port())
    with make_site(tmp_path, monkeypatch, nowhere):
        assert "can't be reached" in _refused_within_bound()


# --- the outbox -----------------------------------------------------------------------------------


def test_the_outbox_keeps_jobs_and_relays_them_in_order_exactly_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    mortal: Server,
    worker_process: Workshop,  # noqa: F811
) -> None:
    with make_site(tmp_path, monkeypatch, redis, mortal, OFFLOAD_OUTBOX=True) as site:
        jobs = [celery_app.add.enqueue(0, 0)]
        mortal.kill()
        jobs += [celery_app.add.enqueue(0, number) for number in range(1, 30)]
        duplicate = [celery_app.once.enqueue(1) for _ in range(2)]
        assert {job.refresh().status for job in jobs[1:]} == {JobStatus.READY}
        outbox = site.engine.connections.outbox
        assert outbox is not None
        for change in (site.engine.cancel, site.engine.retry):
            outbox.close()  # ends the relay, which may record jobs that it can't send yet
            held = celery_app.add.call(0, 0).new_job
            outbox.put([held])
            with pytest.raises(EngineUnavailable, match="waits in this machine's outbox"):
                change(held.id)
        assert site.engine.arguments(jobs[-1].id) == "[[0,29],{}]"
        assert "wait until Redis" in _said(site, "outbox")
        mortal.start()
        wait_until(lambda: not outbox.has_jobs(), 30, "the outbox to be empty")
        jobs += [celery_app.add.enqueue(0, number) for number in range(30, 33)]
        with site.worker(worker_process, "--threads", "1"):
            site.wait(*jobs, *duplicate)
        account = site.account(jobs, f"outbox over an outage of {type(mortal).__name__}")
        assert account.starts == {1: len(jobs)}
        ids = [job.id for job in jobs]
        assert [line[1] for line in site.witnessed("start") if line[1] in ids] == ids
        assert sum(len(site.witnessed("start", job)) for job in set(duplicate)) == 1


def test_a_relay_that_begins_again_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    with make_site(tmp_path, monkeypatch, redis, OFFLOAD_OUTBOX=True) as site:
        job = celery_app.add.call(1, 2).new_job
        for _ in range(2):  # as after a relay that died before it could forget what it delivered
            site.engine._producer.deliver("box", [(7, job)])
        assert site.engine.count()[JobStatus.READY] == 1
        store = site.engine.connections.store
        assert store.run("withdraw", 0, job.id) == [job.id]  # by a sender that hung
        site.engine.cancel(job.id)
        store.run("prune", time.time() + 1e9, 0, 10)  # it is forgotten
        site.engine._producer.deliver("box", [(7, job)])
        assert sum(site.engine.count().values()) == 0


def test_a_duplicate_that_waited_in_the_outbox_is_kept_as_its_task_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    with make_site(tmp_path, monkeypatch, redis, OFFLOAD_OUTBOX=True) as site:
        first, second = (celery_app.once.call(1).new_job for _ in range(2))
        site.engine._producer.deliver("box", [(1, first), (2, second)])
        assert site.engine.get(second.id).status is JobStatus.CANCELLED
        ends = float(site.engine.connections.store.ask("ZSCORE", "ends", second.id))
        assert ends - time.time() == pytest.approx(60, abs=30)


def test_a_batch_of_which_a_job_has_started_is_accepted_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    """The broker's answer to the first message was lost, but a worker has received it."""
    with make_site(tmp_path, monkeypatch, redis) as site:
        started, *waiting = site.offload.enqueue_many([celery_app.add.call(n, 0) for n in range(3)])
        store, ids = site.engine.connections.store, [started.id, *(job.id for job in waiting)]
        store.claim(started.id, "w1", time.time())
        assert store.run("withdraw", 1, *ids) == [started.id]
        assert {job.refresh().status for job in waiting} == {JobStatus.READY}
        assert store.run("withdraw", 1, *ids[1:]) == []
        assert sum(site.engine.count().values()) == 1


# --- failures in mid-flight -----------------------------------------------------------------------


def test_a_broker_that_is_killed_and_comes_back_costs_no_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    mortal: Server,
    worker_process: Workshop,  # noqa: F811
) -> None:
    with make_site(tmp_path, monkeypatch, redis, mortal) as site, site.worker(worker_process):
        jobs = site.offload.enqueue_many([celery_app.slow.call(0.2) for _ in range(60)])
        site.wait_for_witness("end", 8)
        mortal.kill()
        assert "can't be reached" in _refused_within_bound()
        with pytest.raises(EngineUnavailable):
            site.offload.enqueue_many([celery_app.add.call(n, n) for n in range(5)])
        mortal.start()
        back = time.monotonic()
        site.wait(*jobs, timeout=60)
        account = site.account(
            jobs, f"{type(mortal).__name__} killed with kill -9 and started again"
        )
        print(f"  all done {time.monotonic() - back:.1f} s after it was back")
    assert account.statuses == {JobStatus.SUCCESSFUL: len(jobs)}
    assert account.lost == account.unexcused == []


def test_a_worker_that_is_killed_is_missed_and_its_jobs_run_elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    broker: Server,
    worker_process: Workshop,  # noqa: F811
) -> None:
    with make_site(tmp_path, monkeypatch, redis, broker) as site, ExitStack() as stack:
        doomed, survivor = (stack.enter_context(site.worker(worker_process)) for _ in range(2))
        jobs = site.offload.enqueue_many([celery_app.slow.call(1.5) for _ in range(20)])
        site.wait_for_witness("start", 8)  # both work
        for pid in [doomed.pid, *descendants(doomed.pid)]:
            kill9(pid)
        died = time.monotonic()
        survivor.wait_for("of its jobs put back")
        missed = time.monotonic() - died
        site.wait(*jobs, timeout=60)
        print(f"\nmissed after {missed:.1f} s")
        account = site.account(
            jobs, f"a worker killed with kill -9, messages on {type(broker).__name__}"
        )
    assert account.statuses == {JobStatus.SUCCESSFUL: len(jobs)}
    assert account.lost == account.unexcused == []
    assert 1 <= account.starts[2] <= 4  # those that ran when it died, and no others


def test_a_broker_that_has_lost_its_messages_gets_them_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    worker_process: Workshop,  # noqa: F811
) -> None:
    with (
        serving(Redis, tmp_path / "messages") as messages,
        make_site(tmp_path, monkeypatch, redis, messages) as site,
    ):
        jobs = [celery_app.add.enqueue(1, number) for number in range(20)]
        messages.kill()
        shutil.rmtree(tmp_path / "messages" / "appendonlydir")
        messages.start()
        with site.worker(worker_process) as worker:
            worker.wait_for("were lost, and are sent again")
            site.wait(*jobs)
        account = site.account(jobs, "a broker that came back empty")
    assert account.starts == {1: len(jobs)}


def test_a_late_message_of_a_job_that_was_sent_again_makes_no_others_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    """They were sent between its two messages, and wait behind the first one."""
    with make_site(tmp_path, monkeypatch, redis) as site:
        store, now = site.engine.connections.store, time.time()
        late, newer, *behind = (celery_app.add.enqueue(1, number).id for number in range(5))
        (lane,) = store.ask("SMEMBERS", "lanes")

        def sweep(at: float) -> int:
            found: int = store.run("sweep", lane, at, OVERTAKEN, UNSEEN, 0, BATCH)
            return found

        store.ask("ZADD", f"sent:{lane}", now - 10 * OVERTAKEN, late)
        store.claim(newer, "w1", now)
        assert sweep(now + 10 * OVERTAKEN) == 1
        store.claim(late, "w1", now)
        assert sweep(now + 10 * OVERTAKEN) == 0
        assert store.ask("ZCARD", f"sent:{lane}") == len(behind)


def test_two_senders_of_one_unique_job_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: Server
) -> None:
    with make_site(tmp_path, monkeypatch, redis) as site:
        ids: list[str] = []

        def send() -> None:
            with site.app.app_context():
                ids.append(celery_app.once.enqueue(9).id)

        threads = [threading.Thread(target=send) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(ids)) == 1
        assert len(ids) == 12
