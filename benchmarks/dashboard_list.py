"""How long the dashboard's list of jobs takes with a million jobs, compared with an empty one.

`python -m benchmarks.dashboard_list [--jobs 1000000]` prints a row for each filter: the median
processor time of a page in both stores, read alternately, and its ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from flask_offload import Offload
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.sqlite.connection import Connection

PAGES = {
    "no filter": {},
    "failed (index)": {"status": "FAILED"},
    "successful (index)": {"status": "SUCCESSFUL"},
    "ready": {"status": "READY"},
    "running": {"status": "RUNNING"},
    "a task without jobs": {"task": "shop.unknown"},
    "an owner without jobs": {"owner": "unknown"},
    "a text that is nowhere": {"text": "needle in the haystack"},
    "failed, a text that is nowhere": {"status": "FAILED", "text": "needle"},
    "failed, a rare exception": {"status": "FAILED", "error": "ValueError"},
    "enqueued before the last hour": {"before": "1h"},
}
ROUNDS = 40

FILL = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
INSERT INTO jobs (seq, secret, task, queue_name, lane, priority, state, attempt, on_crash, origin,
    enqueued_at, started_at, finished_at, expires_at, worker, args)
SELECT CAST((?2 - ?1 + n) * 65536 AS INTEGER), lower(hex(randomblob(16))), 'shop.task' || (n % 5),
    'default', 'threads', 0,
    CASE WHEN n % 10 < 7 THEN 'successful' WHEN n % 10 < 9 THEN 'ready' ELSE 'failed' END, 1,
    'retry', 'enqueue', ?2 - ?1 + n, ?2, ?2, ?2 + 1e9, 'worker', '[[' || n || ',"some text"],{}]'
FROM numbers
"""
ATTEMPTS = """
INSERT INTO attempts (seq, number, worker, started_at, finished_at, outcome, error_type,
    error_message)
SELECT seq, 1, 'worker', started_at, finished_at, 'FAILED', 'OSError', 'no route' FROM jobs
WHERE state = 'failed'
"""


def client_of(folder: Path, jobs: int) -> FlaskClient:
    """A browser of an app with so many jobs, one for each second until now."""
    app = Flask("shop")
    app.config.update(
        DEBUG=True,
        OFFLOAD_SQLITE_PATH=str(folder / "jobs.sqlite3"),
        OFFLOAD_WORKER="off",
        OFFLOAD_SPOT=False,
        OFFLOAD_SERVER_TIMING=False,
    )
    engine = Offload(app).state_of(app).engine
    assert isinstance(engine, SqliteEngine)

    def fill(connection: Connection) -> None:
        connection.execute(FILL, (jobs, time.time()))
        connection.execute(ATTEMPTS)

    if jobs:
        engine.database.write(fill)
    return app.test_client()


def milliseconds(client: FlaskClient, query: dict[str, str]) -> float:
    """How long one page takes: processor time, which other programs do not disturb."""
    began = time.thread_time()
    response = client.get("/offload/dashboard/jobs", query_string=query or None)
    assert response.status_code == 200, response.get_data(as_text=True)
    return (time.thread_time() - began) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("empty", "full")]
        for place in places:
            place.mkdir()
        empty, full = client_of(places[0], 0), client_of(places[1], jobs)
        print(f"{jobs:,} jobs, {ROUNDS} rounds\n")
        print(f"{'':34}{'empty ms':>9}{'full ms':>9}{'ratio':>7}")
        for name, query in PAGES.items():
            pairs = [
                (milliseconds(empty, {}), milliseconds(full, query)) for _ in range(ROUNDS + 5)
            ][5:]
            few, many = (statistics.median(times) for times in zip(*pairs, strict=True))
            print(f"{name:34}{few:9.2f}{many:9.2f}{many / few:7.2f}")


if __name__ == "__main__":
    main()
