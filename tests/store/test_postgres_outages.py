"""The PostgreSQL engine on bad days: the server stops, restarts, freezes or ends a session; and a
worker is killed."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from flask_offload import JobStatus
from flask_offload.admin.postgres import PostgresEngine
from flask_offload.engines.base import JobQuery
from flask_offload.engines.postgres.worker_store import PostgresStore
from flask_offload.engines.store import StoreOptions
from flask_offload.errors import ConfigError, DatabaseGone, DatabaseReadOnly, EngineUnavailable
from flask_offload.jobs.attempt import Ending
from postgres_server import PostgresServer, serving_postgres, shared_server
from postgres_site import Site, opened_site
from store_support import KEEP, new_job, outcome
from support import APP_PATH, Running, free_port, http_get, kill9, listening, running, wait_until

LIMIT = 2.0
"""Seconds; the OFFLOAD_ENQUEUE_TIMEOUT of these tests."""


@pytest.fixture(scope="session", name="server")
def server_fixture(processes: None) -> PostgresServer:
    """The server of this process."""
    return shared_server()


@pytest.fixture
def own_server(processes: None) -> Iterator[PostgresServer]:
    """A server that the test may stop and start."""
    with serving_postgres() as server:
        yield server


@pytest.fixture(name="postgres_url")
def postgres_url_fixture(server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with server.database() as url:
        yield url


@contextmanager
def engine_on(server: PostgresServer) -> Iterator[PostgresEngine]:
    made = PostgresEngine(server.url, timeout=LIMIT)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[PostgresEngine]:
    made = PostgresEngine(postgres_url, timeout=LIMIT)
    yield made
    made.close()


@contextmanager
def opened(engine: PostgresEngine) -> Iterator[PostgresStore]:
    """A worker's store in this process."""
    store = engine.open_store(
        StoreOptions(kind="test", retention=KEEP, places=64, capacity=4, queues=None)
    )
    try:
        yield store
    finally:
        store.close()


def refused_in_time(call: Callable[[], object]) -> str:
    """The message of the EngineUnavailable that the call raises within its time."""
    began = time.monotonic()
    with pytest.raises(EngineUnavailable) as info:
        call()
    assert time.monotonic() - began < LIMIT + 2.0
    return str(info.value)


def enqueue(engine: PostgresEngine) -> str:
    return engine.enqueue([new_job(time.time())])[0].id


# --- the server --------------------------------------------------------------------------------


def test_a_stopped_server_is_an_error_in_time_and_back_after_its_start(
    own_server: PostgresServer,
) -> None:
    with engine_on(own_server) as engine:
        first = enqueue(engine)
        own_server.stop()
        assert "127.0.0.1" in refused_in_time(lambda: enqueue(engine))
        assert "127.0.0.1" in refused_in_time(lambda: engine.get(first))
        own_server.start()
        assert engine.get(first).status is JobStatus.READY
        enqueue(engine)
        assert engine.count()[JobStatus.READY] == 2


def test_an_idle_connection_that_was_ended_is_replaced_without_an_error(
    own_server: PostgresServer,
) -> None:
    with engine_on(own_server) as engine:
        first = enqueue(engine)
        own_server.stop()
        own_server.start()
        second = enqueue(engine)
        assert [engine.get(job_id).status for job_id in (first, second)] == [JobStatus.READY] * 2


def test_a_frozen_server_is_an_error_in_time_and_nothing_was_enqueued(
    engine: PostgresEngine, server: PostgresServer
) -> None:
    enqueue(engine)
    with server.frozen():
        refused_in_time(lambda: enqueue(engine))
    wait_until(lambda: engine.count()[JobStatus.READY] >= 1)
    assert engine.count()[JobStatus.READY] == 1


def test_an_answer_to_commit_that_is_lost_is_asked_for(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways: it was committed, and it was not."""
    enqueue(engine)
    (connection,) = engine.database._idle
    real = connection.raw.execute

    def losing(query: bytes, *args: object, **kwargs: object) -> object:
        if query != b"COMMIT":
            return real(query, *args, **kwargs)  # type: ignore[call-overload]
        if is_committed:
            real(query)
        connection.raw.pgconn.finish()
        raise psycopg.OperationalError("the answer is lost")

    is_committed = True
    monkeypatch.setattr(connection.raw, "execute", losing)
    second = enqueue(engine)
    assert engine.get(second).status is JobStatus.READY
    (connection,) = engine.database._idle
    real, is_committed = connection.raw.execute, False
    monkeypatch.setattr(connection.raw, "execute", losing)
    third = enqueue(engine)  # it was not, so it is done again
    assert engine.get(third).status is JobStatus.READY
    assert engine.count()[JobStatus.READY] == 3


CALLS: dict[str, Callable[[PostgresEngine, str], object]] = {
    "enqueue": lambda engine, _: enqueue(engine),
    "enqueue many": lambda engine, _: engine.enqueue([new_job(time.time()) for _ in range(3)]),
    "get": lambda engine, job_id: engine.get(job_id),
    "list": lambda engine, _: engine.list(JobQuery()),
    "count": lambda engine, _: engine.count(),
    "cancel": lambda engine, job_id: engine.cancel(job_id),
    "pause": lambda engine, _: engine.pause("default"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_session_that_ends_as_it_is_used_is_replaced_without_an_error(
    engine: PostgresEngine, server: PostgresServer, call: Callable[[PostgresEngine, str], object]
) -> None:
    job_id = enqueue(engine)
    (connection,) = engine.database._idle
    os.kill(connection.pid, signal.SIGSTOP)  # so that nothing is to be seen of its end yet
    try:
        server.execute(f"SELECT pg_terminate_backend({connection.pid})")
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(call, engine, job_id)
            wait_until(lambda: not engine.database._idle)
            os.kill(connection.pid, signal.SIGCONT)
            done.result(10)
    finally:
        with suppress(ProcessLookupError):
            os.kill(connection.pid, signal.SIGCONT)
    assert connection.raw.closed


@pytest.mark.parametrize("timing", ["BEFORE INSERT", "AFTER INSERT"])
@pytest.mark.parametrize("number", [1, 3])
def test_an_enqueue_whose_session_ends_before_or_in_its_commit_is_done_once(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str, timing: str, number: int
) -> None:
    """The server ends the session in the middle of the first try. AFTER: when it is to commit."""
    enqueue(engine)
    is_late = timing == "AFTER INSERT"
    for statement in (
        "CREATE SEQUENCE tries",  # which counts on, whatever is rolled back
        """CREATE FUNCTION fall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('public.tries') = 1 THEN
                PERFORM pg_terminate_backend(pg_backend_pid());
            END IF;
            RETURN NEW;
        END $$""",
        f"""CREATE {"CONSTRAINT" if is_late else ""} TRIGGER falls {timing} ON offload.jobs
            {"DEFERRABLE INITIALLY DEFERRED" if is_late else ""}
            FOR EACH ROW EXECUTE FUNCTION fall()""",
    ):
        server.execute(statement, postgres_url.rpartition("/")[2])
    records = engine.enqueue([new_job(time.time()) for _ in range(number)])
    assert {engine.get(record.id).status for record in records} == {JobStatus.READY}
    assert engine.count()[JobStatus.READY] == 1 + number


def test_a_wrong_address_is_a_sentence_without_the_password() -> None:
    with pytest.raises(ConfigError, match="postgresql://"):
        PostgresEngine("mysql://root:secret@host/db")
    engine = PostgresEngine("postgresql+psycopg2://u:secret@127.0.0.1:1/db", timeout=LIMIT)
    text = refused_in_time(lambda: enqueue(engine))
    assert "127.0.0.1:1/db" in text
    assert "secret" not in text


def test_a_role_without_ddl_rights_works_after_migrate(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    database = postgres_url.rpartition("/")[2]
    server.execute("DROP ROLE IF EXISTS app")
    server.execute("CREATE ROLE app LOGIN")
    app = PostgresEngine(server.url_of(database, "app"), timeout=LIMIT)
    assert "flask offload migrate" in refused_in_time(lambda: enqueue(app))
    engine.migrate()
    for statement in (
        "GRANT USAGE ON SCHEMA offload TO app",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA offload TO app",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA offload TO app",
    ):
        server.execute(statement, database)
    try:
        enqueue(app)
        with opened(app) as store:
            (claim,) = store.exchange([], {"threads": 5}).claims
            store.exchange([outcome(claim, time.time())], {})
        assert app.count()[JobStatus.SUCCESSFUL] == 1
    finally:
        app.close()
        server.execute("DROP OWNED BY app", database)
        server.execute("DROP ROLE app")


def test_a_read_only_server_is_a_sentence_and_passes(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    database = postgres_url.rpartition("/")[2]
    job_id = enqueue(engine)
    server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    engine.close()
    with pytest.raises(DatabaseReadOnly, match="read-only"):
        enqueue(engine)
    assert engine.get(job_id).status is JobStatus.READY
    server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    engine.close()
    enqueue(engine)


def test_a_server_without_free_connections_is_a_sentence_and_passes(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    enqueue(engine)
    engine.close()
    database = postgres_url.rpartition("/")[2]
    server.execute("DROP ROLE IF EXISTS guest")
    server.execute("CREATE ROLE guest LOGIN CONNECTION LIMIT 0")
    guest = PostgresEngine(server.url_of(database, "guest"), timeout=LIMIT)
    assert "too many connections" in refused_in_time(lambda: enqueue(guest))
    server.execute("DROP ROLE guest")


def test_tables_that_were_dropped_are_created_again(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    enqueue(engine)
    with opened(engine) as store:
        server.execute("DROP SCHEMA offload CASCADE", postgres_url.rpartition("/")[2])
        for call in (lambda: enqueue(engine), lambda: store.exchange([], {"threads": 1})):
            with pytest.raises(DatabaseGone, match="flask offload migrate"):
                call()
        job_id = enqueue(engine)
        (claim,) = store.exchange([], {"threads": 1}).claims
        assert claim.id == job_id
        assert [info.id for info in store.workers()] == [store.worker_id]


# --- a worker's session --------------------------------------------------------------------------


def end_sessions(server: PostgresServer, url: str) -> None:
    """As an administrator does with pg_terminate_backend."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
        f" '{url.rpartition('/')[2]}'"
    )


def test_a_worker_whose_session_was_ended_takes_its_lock_again_and_keeps_its_jobs(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    enqueue(engine)
    with opened(engine) as store, opened(engine) as other:
        (claim,) = store.exchange([], {"threads": 5}).claims
        end_sessions(server, postgres_url)
        with pytest.raises(EngineUnavailable):
            store.exchange([outcome(claim, time.time())], {})
        with pytest.raises(EngineUnavailable):
            other.recover()
        assert store.exchange([outcome(claim, time.time())], {}).refused == []
        assert other.recover() == []
        assert {info.id for info in other.workers()} == {store.worker_id, other.worker_id}


def test_a_worker_without_a_session_gives_its_jobs_up_before_another_starts_them(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    enqueue(engine)
    with opened(engine) as store, opened(engine) as other:
        (claim,) = store.exchange([], {"threads": 5}).claims
        store.slots.start(store.slots.take(claim.seq), claim.seq)
        assert store.lapsed() == []
        key = store.session._key
        connection = store.session._connection
        assert connection is not None
        pid = connection.raw.info.backend_pid
        server.execute(f"SELECT pg_terminate_backend({pid})")
        while store.session._broken_at is None:  # its last words come before its end
            assert select.select([store.notifier], [], [], 5)[0]
            store.notifier.clear()
        # it does not come back: its process hangs, say
        wait_until(lambda: store.lapsed() == [(claim.seq, 1)], 10.0)
        assert other.recover() == []
        wait_until(lambda: other.recover() == [(store.worker_id, 1)], 10.0)
        (again,) = other.exchange([], {"threads": 5}).claims
        assert (again.id, again.attempt, again.crashes) == (claim.id, 2, 1)
        # it comes back after all: it learns which of its jobs to stop, and can't write
        assert store.cancellations() == [(claim.seq, 1, True)]
        late = outcome(claim, time.time())
        assert store.exchange([late], {}).refused == [late]
        assert store.lapsed() == []
        assert store.cancellations() == []
        assert other.exchange([outcome(again, time.time())], {}).refused == []
        assert key == store.session._key


def test_a_claim_whose_answer_was_lost_is_given_back(
    engine: PostgresEngine, server: PostgresServer, postgres_url: str
) -> None:
    job_id = enqueue(engine)
    with opened(engine) as store:
        (claim,) = store.exchange([], {"threads": 5}).claims
        store._held.clear()  # as if the answer had never come
        end_sessions(server, postgres_url)
        with pytest.raises(EngineUnavailable):
            store.exchange([], {"threads": 5})
        (again,) = store.exchange([], {"threads": 5}).claims
        assert (again.id, again.attempt, again.crashes) == (job_id, 1, 0)
        assert claim.id == job_id


def test_an_enqueue_wakes_a_worker_and_a_notification_is_not_lost_in_another_answer(
    engine: PostgresEngine,
) -> None:
    with opened(engine) as store:
        store.notifier.clear()
        assert not select.select([store.notifier], [], [], 0)[0]
        enqueue(engine)
        assert select.select([store.notifier], [], [], 5)[0]
        store.notifier.clear()
        enqueue(engine)
        store.next_due()  # its answer brings the notification along
        assert select.select([store.notifier], [], [], 5)[0]


# --- worker processes ----------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, postgres_url: str) -> Iterator[Site]:
    with opened_site(tmp_path, postgres_url) as made:
        yield made


def test_a_killed_workers_job_starts_again_within_a_second_on_the_same_machine(
    site: Site,
) -> None:
    with site.worker() as first:
        wait_until(lambda: site.workers() == 1, 30.0)
        job = site.enqueue("survive")
        wait_until(lambda: site.lines() == ["attempt 1"])
        with site.worker() as second:
            wait_until(lambda: site.workers() == 2, 30.0)
            kill9(first.pid)
            began = time.monotonic()
            wait_until(lambda: len(site.lines()) == 2, 10.0, second.output)
            took = time.monotonic() - began
            wait_until(lambda: job.refresh().is_finished, 10.0, second.output)
    assert [attempt.outcome for attempt in job.attempts] == [Ending.CRASHED, Ending.SUCCESSFUL]
    assert took < 3.0  # a second on a quiet machine


def test_a_worker_outlives_a_restart_of_the_server_and_nothing_is_lost(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    with opened_site(tmp_path, own_server.url) as site:
        with site.worker() as worker:
            wait_until(lambda: site.workers() == 1, 30.0)
            jobs = [site.enqueue("linger", f"{number}", 2.0) for number in range(8)]
            wait_until(lambda: jobs[0].refresh().status is JobStatus.RUNNING)
            own_server.stop()
            time_down = time.monotonic() + 1.0
            wait_until(lambda: time.monotonic() > time_down)
            own_server.start()
            wait_until(lambda: all(job.refresh().is_finished for job in jobs), 30.0, worker.output)
            assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}, worker.output()
        # a restart that takes longer than the lease hands a running job back: it runs once more
        assert set(site.lines()) == {f"{number}" for number in range(8)}


@pytest.mark.parametrize(
    "server_command",
    [
        ["flask", "--app", "contract_app", "run", "--port", "{port}"],
        ["gunicorn", "--bind", "127.0.0.1:{port}", "-w", "2", "contract_app:create_app()"],
        ["gunicorn", "--bind", "127.0.0.1:{port}", "-k", "gevent", "contract_app:create_app()"],
    ],
    ids=["flask run", "gunicorn", "gevent"],
)
def test_a_web_process_keeps_a_worker_that_needs_only_the_configuration(
    site: Site, server_command: list[str]
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/enqueue/nothing"
    settings = {f"FLASK_{name}": value for name, value in site.settings.items()}
    with running(
        [sys.executable, "-m", *(word.replace("{port}", str(port)) for word in server_command)],
        env={**settings, "FLASK_OFFLOAD_WORKER": "auto", "PYTHONPATH": APP_PATH},
        cwd=site.folder,
        ready=lambda _: listening(port),
    ) as web:
        jobs = [site.offload.get_job(http_get(url).text) for _ in range(4)]
        wait_until(lambda: all(job.refresh().is_finished for job in jobs), 30.0, web.output)
        assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}
        assert site.workers() == 1
        assert "@" not in command_line_of_worker(web)


def command_line_of_worker(web: Running) -> str:
    """What any user of the machine may read: there must be no password in it."""
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in web.family()]
    (found,) = {line for line in lines if "--kept-by" in line and "--database" in line}
    return found


def test_the_commands_migrate_and_check(site: Site) -> None:
    runner = site.app.test_cli_runner()
    for _ in range(2):
        assert "release" in runner.invoke(args=["offload", "migrate"]).output
    site.enqueue("nothing")
    checked = runner.invoke(args=["offload", "check"])
    assert "no worker is alive: 1 job waiting" in checked.output
    assert "PostgreSQL 1" in checked.output
