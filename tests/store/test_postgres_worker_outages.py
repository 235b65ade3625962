"""A worker process and a web process on PostgreSQL while its server fails over, is full, is
read-only or refuses the password: `enqueue` answers in time with a sentence, and no job is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from bad_network import BadLine
from flask_offload import EngineUnavailable, Job, JobStatus
from flask_offload.errors import DatabaseFull, DatabaseReadOnly
from postgres_server import USER, PostgresServer, serving_postgres, shared_server
from postgres_site import Site, opened_site
from support import missing, wait_until

pytestmark = pytest.mark.processes

TIMEOUT = 2.0


def refused(site: Site, kind: type[EngineUnavailable] = EngineUnavailable) -> str:
    """What `enqueue` says, once it is refused; it must not take much longer than its time."""

    def message() -> str:
        began = time.monotonic()
        try:
            site.enqueue("nothing")
        except EngineUnavailable as error:  # first, perhaps, for its session has ended
            return str(error) if isinstance(error, kind) else ""
        finally:
            assert time.monotonic() - began < TIMEOUT + 2.0
        return ""

    return wait_until(message, 20.0, f"enqueue to be refused by {kind.__name__}")


def accepted(site: Site) -> Job:
    """A job that is enqueued as soon as that is possible again."""

    def job() -> Job | None:
        with suppress(EngineUnavailable):
            return site.enqueue("nothing")
        return None

    found = wait_until(job, 30.0, "enqueue to work again")
    assert found is not None
    return found


@contextmanager
def working(site: Site) -> Iterator[Callable[[], None]]:
    """A worker that is at work on jobs of a second. Given: what waits for the end of all, and of
    one that is enqueued last, and sees that none was lost."""
    with site.worker() as worker:
        wait_until(lambda: site.workers() == 1, 30.0, worker.output)
        jobs = [site.enqueue("linger", f"{number}", 1.0) for number in range(8)]
        wait_until(lambda: jobs[0].refresh().status is JobStatus.RUNNING, 20.0, worker.output)

        def done() -> None:
            jobs.append(accepted(site))
            wait_until(lambda: all(job.refresh().is_finished for job in jobs), 40.0, worker.output)
            assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}, worker.output()
            assert set(site.lines()) == {f"{number}" for number in range(8)}
            assert worker.popen.poll() is None

        yield done


@pytest.fixture(scope="session")
def server(processes: None) -> PostgresServer:
    """The server of this process."""
    return shared_server()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may change and stop."""
    with serving_postgres() as server:
        yield server


def test_a_promoted_replica_at_the_same_address_goes_on(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    with own_server.replica() as standby, ExitStack() as stack:
        line = stack.enter_context(closing(BadLine(("127.0.0.1", own_server.port), 1)))
        url = f"postgresql://{USER}@127.0.0.1:{line.port}/postgres"
        site = stack.enter_context(opened_site(tmp_path, url))
        with working(site) as done:
            own_server.stop()
            line.reset()
            assert f"127.0.0.1:{line.port}/postgres" in refused(site)
            line.target = ("127.0.0.1", standby.port)  # it is still a standby
            assert "connect to the primary" in refused(site, DatabaseReadOnly)
            standby.execute("SELECT pg_promote()")
            done()


def test_a_full_disk_is_a_sentence_and_passes(tmp_path: Path, own_server: PostgresServer) -> None:
    with small_disk(own_server.folder / "small") as disk:
        own_server.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        own_server.execute("CREATE DATABASE crammed TABLESPACE small")
        url = own_server.url_of("crammed")
        try:
            with opened_site(tmp_path, url) as site, working(site) as done:
                ballast = disk / "ballast"
                with ballast.open("wb") as file, suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                assert "make room" in filled(site)
                ballast.unlink()
                done()
        finally:
            own_server.execute("DROP DATABASE crammed WITH (FORCE)")
            own_server.execute("DROP TABLESPACE small")


def filled(site: Site) -> str:
    """What `enqueue` says, once the pages that the server has already are full."""
    for _ in range(200):
        try:
            site.enqueue("echo", os.urandom(20_000).hex())
        except DatabaseFull as error:
            return str(error)
    raise AssertionError("the disk never became full")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of the server's user, in memory."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        missing("mount needs root")
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if subprocess.run(argv, check=False, capture_output=True).returncode:
        missing("this machine mounts no tmpfs")
    try:
        place = folder / "space"
        place.mkdir()
        shutil.chown(place, USER, USER)
        yield place
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def end_sessions(server: PostgresServer, database: str) -> None:
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    )


def test_a_database_that_becomes_read_only_is_a_sentence_and_passes(
    tmp_path: Path, server: PostgresServer
) -> None:
    with server.database() as url, opened_site(tmp_path, url) as site, working(site) as done:
        database = url.rpartition("/")[2]
        server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        end_sessions(server, database)
        assert "read-only" in refused(site, DatabaseReadOnly)
        server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        end_sessions(server, database)
        done()


def test_a_changed_password_is_a_sentence_without_it_and_passes(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    own_server.execute("CREATE ROLE app LOGIN PASSWORD 'first' SUPERUSER")
    rules = own_server.folder / "data" / "pg_hba.conf"
    rules.write_text(f"host all {USER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 md5\n")
    own_server.execute("SELECT pg_reload_conf()")
    url = own_server.url_of("postgres", "app:first")
    with opened_site(tmp_path, url) as site, working(site) as done:
        own_server.execute("ALTER ROLE app PASSWORD 'second'")
        own_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
        )
        told = refused(site)
        assert "password" in told
        assert "OFFLOAD_POSTGRES_URL" in told
        assert "first" not in told
        own_server.execute("ALTER ROLE app PASSWORD 'first'")
        done()
