"""The PostgreSQL engine behind a PgBouncer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_offload import JobStatus
from flask_offload.admin.postgres import PostgresEngine
from postgres_server import PostgresServer, serving_pgbouncer, serving_postgres
from postgres_site import opened_site
from store_support import new_job
from support import wait_until


@pytest.fixture
def own_server(processes: None) -> Iterator[PostgresServer]:
    """A server without any tables."""
    with serving_postgres() as server:
        yield server


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_jobs_are_enqueued_and_run_through_a_pooler(
    own_server: PostgresServer, mode: str, tmp_path: Path
) -> None:
    direct = {"OFFLOAD_POSTGRES_DIRECT_URL": own_server.url} if mode == "transaction" else {}
    with (
        serving_pgbouncer(own_server, mode) as url,
        opened_site(tmp_path, url, **direct) as site,
        site.worker() as worker,
    ):
        wait_until(lambda: site.workers() == 1, 30.0, worker.output)
        jobs = [site.enqueue("echo", number) for number in range(20)]
        jobs += site.offload.enqueue_many(
            site.offload.tasks["contract_app.echo"].call(number) for number in range(20)
        )
        wait_until(lambda: all(job.refresh().is_finished for job in jobs), 30.0, worker.output)
        assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}


def test_many_sessions_of_the_app_share_few_of_the_server(own_server: PostgresServer) -> None:
    with serving_pgbouncer(own_server, "transaction") as url:
        engines = [PostgresEngine(url, direct_url=own_server.url) for _ in range(8)]
        try:
            for _ in range(12):  # more often than it takes to prepare a statement
                for engine in engines:
                    engine.enqueue([new_job(time.time())])
            assert engines[0].count()[JobStatus.READY] == 96
        finally:
            for engine in engines:
                engine.close()
