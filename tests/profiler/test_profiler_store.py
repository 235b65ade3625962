"""The evidence file: figures, bounds, several writers, and what goes wrong with files."""

from __future__ import annotations

import os
import random
import stat
import statistics
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from flask_offload.profiler import store as spot_store
from flask_offload.profiler.spot_report import UNKNOWN, Blocker, SpotReport
from flask_offload.profiler.store import (
    Batch,
    EvidenceUnreadable,
    RouteBatch,
    buckets_of,
    forget_samples,
    milliseconds_of,
    route_rows,
    spot_rows,
    write,
)

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "offload.sqlite3-evidence.sqlite3"


def report(
    route: str = "GET /", function: str = "nap", seconds: float = 1.0, share: float = 1.0
) -> SpotReport:
    blocker = Blocker(function, "/shop/app.py", 7, share, True, "in nap", "task", "move it")
    return SpotReport(route, seconds, 50, (blocker,), f"{route} blocked by {function}")


def batch(*reports: SpotReport, **seconds: list[float]) -> Batch:
    """Reports, and the durations of requests: `batch(index=[0.1, 0.2])` is the route GET /index."""
    made = Batch()
    for each in reports:
        made.add_report(each)
    for name, durations in seconds.items():
        made.routes["GET", f"/{name}"] = RouteBatch(durations)
    return made


def rows_in(store: Path, table: str) -> int:
    connection = apsw.Connection(str(store))
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").get)
    finally:
        connection.close()


# --- figures -----------------------------------------------------------------------------------


def test_percentiles_are_exact_to_about_one_percent(store: Path) -> None:
    chosen = random.Random(6)
    seconds = [chosen.lognormvariate(-3, 1.5) for _ in range(999)]
    write(store, batch(index=seconds))
    (row,) = route_rows(store)
    ordered = sorted(seconds)
    assert row.count == 999
    assert row.p50_ms == pytest.approx(ordered[499] * 1000, rel=0.012)
    assert row.p95_ms == pytest.approx(ordered[949] * 1000, rel=0.012)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-6, 0.001, 0.2, 1.43, 3600.0])
def test_a_bucket_stands_for_the_durations_in_it(seconds: float) -> None:
    (bucket,) = buckets_of([seconds])
    assert milliseconds_of(bucket) == pytest.approx(seconds * 1000, rel=0.012, abs=0.001)


@pytest.mark.parametrize("count", [999, 1000, 1001, 1999, 2500, 17_003])
def test_of_very_many_requests_only_some_are_looked_at_but_all_are_counted(count: int) -> None:
    chosen = random.Random(count)
    seconds = [chosen.uniform(0.01, 0.02) for _ in range(count)]
    buckets = buckets_of(seconds)
    assert buckets.total() == count
    assert min(buckets.values()) > 0
    mean = sum(milliseconds_of(bucket) * each for bucket, each in buckets.items()) / count
    assert mean == pytest.approx(statistics.mean(seconds) * 1000, rel=0.05)


def test_sizes_and_queue_times_are_means_of_what_is_known(store: Path) -> None:
    made = batch(index=[0.1, 0.1, 0.1], other=[0.1])
    made.routes["GET", "/index"].lengths = ["100", "300", "odd"]
    made.routes["GET", "/index"].arrivals = [("t=1800000000.0", 1_800_000_001.5), ("odd", 5.0)]
    write(store, made)
    index, other = route_rows(store)
    assert index.mean_bytes == 200
    assert index.mean_queue_ms == pytest.approx(1500)
    assert other.mean_bytes is None
    assert other.mean_queue_ms is None


def test_a_route_shows_its_worst_blocker_and_routes_come_by_time_lost(store: Path) -> None:
    write(
        store,
        batch(
            report("GET /a", "small", 1.0, 0.3),
            report("GET /a", "large", 1.0, 0.6),
            report("GET /a", "large", 3.0, 0.8),
            report("GET /b", "other", 9.0, 1.0),
            a=[1.0, 1.0, 3.0],
            b=[9.0],
        ),
    )
    worst, second = spot_rows(store)
    assert (worst.route, worst.function, worst.count) == ("GET /b", "other", 1)
    assert (second.route, second.function, second.count) == ("GET /a", "large", 3)
    assert second.share == pytest.approx((0.6 + 2.4) / 4, abs=0.001)


def test_the_latest_sentence_and_line_stand(store: Path) -> None:
    old, new = report(), report()
    write(store, batch(old, index=[1.0]))
    moved = Blocker("nap", "/shop/app.py", 99, 1.0, False, "in nap", "query", "change it")
    write(store, batch(SpotReport(new.route, 1.0, 50, (moved,), "the latest", 214)))
    (row,) = spot_rows(store)
    assert (row.line, row.waiting, row.sentence) == (99, False, "the latest")
    assert (row.queries, row.advice) == (214, "query")


def test_sentences_since_a_moment_include_routes_that_are_not_the_worst(store: Path) -> None:
    write(store, batch(report("GET /a", "large", 9.0), report("GET /b")))
    moment = time.time()
    write(store, batch(report("GET /a", "small", 0.3)))
    assert spot_rows(store)[0].function == "large"
    assert spot_store.sentences_since(store, moment) == {"GET /a": "GET /a blocked by small"}
    assert spot_store.sentences_since(store, 0.0).keys() == {"GET /a", "GET /b"}
    assert spot_store.sentences_since(store, time.time() + 1) == {}


def test_a_request_without_samples_is_listed(store: Path) -> None:
    write(store, batch(SpotReport("GET /", 1.0, 0, (), "could not be looked at")))
    (row,) = spot_rows(store)
    assert (row.function, row.waiting) == (UNKNOWN.function, None)


def test_without_a_file_there_is_nothing(store: Path) -> None:
    assert spot_rows(store) == []
    assert route_rows(store) == []
    assert spot_store.sentences_since(store, 0.0) == {}
    forget_samples(store)
    assert not store.exists()


def test_what_is_forgotten_is_gone_and_later_evidence_counts(store: Path) -> None:
    write(store, batch(report(), index=[1.0]))
    forget_samples(store)
    assert spot_rows(store) == []
    write(store, batch(report("GET /later")))
    assert [row.route for row in spot_rows(store)] == ["GET /later"]


# --- bounds ------------------------------------------------------------------------------------


def test_evidence_is_kept_for_some_days(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    write(store, batch(report("GET /old"), old=[1.0]))
    monkeypatch.setattr(time, "time", lambda: now + (spot_store.DAYS - 1) * DAY)
    write(store, batch(report("GET /new"), new=[1.0]))
    assert {row.route for row in spot_rows(store)} == {"GET /old", "GET /new"}
    monkeypatch.setattr(time, "time", lambda: now + spot_store.DAYS * DAY)
    write(store, batch(report("GET /newest"), newest=[1.0]))
    assert {row.route for row in spot_rows(store)} == {"GET /new", "GET /newest"}


def test_endlessly_many_blockers_do_not_fill_the_disk(store: Path) -> None:
    for number in range(3):
        made = Batch()
        for blocker in range(spot_store.MAX_BLOCKERS * 2):
            made.add_report(report(f"GET /{number}", f"function{blocker}"))
        write(store, made)
        assert rows_in(store, "blockers") <= spot_store.MAX_BLOCKERS


def test_endlessly_many_routes_do_not_fill_the_disk(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spot_store, "MAX_ROUTES", 10)
    for number in range(4):
        write(store, batch(**{f"route{number}_{each}": [0.1] for each in range(8)}))
    assert len(route_rows(store)) == 10
    write(store, batch(route0_0=[0.1]))  # a known one is counted on
    assert route_rows(store)[0].count == 2


# --- files and processes -----------------------------------------------------------------------


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "evidence.sqlite3"
    write(path, batch(report()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


WRITER = """
import sys
from pathlib import Path
import apsw
from flask_offload.profiler.store import Batch, RouteBatch, write

for _ in range(40):
    batch = Batch()
    batch.routes["GET", "/"] = RouteBatch([0.1, 0.2])
    while True:
        try:
            write(Path(sys.argv[1]), batch)
            break
        except apsw.BusyError:
            pass
"""


@pytest.mark.processes
def test_several_processes_write_and_another_reads(store: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(store)], env=os.environ)
        for _ in range(3)
    ]
    counts = [0]
    while any(writer.poll() is None for writer in writers):
        counts += [row.count for row in route_rows(store)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert counts == sorted(counts)
    assert route_rows(store)[0].count == 3 * 40 * 2


def test_a_write_that_fails_leaves_the_file_as_it_was(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, batch(report("GET /kept"), kept=[1.0]))

    def fail(*args: object) -> None:
        raise apsw.IOError("no more room")

    monkeypatch.setattr(spot_store, "_add_blockers", fail)
    with pytest.raises(apsw.IOError):
        write(store, batch(report("GET /lost"), lost=[1.0]))
    assert [row.route for row in route_rows(store)] == ["GET /kept"]


def test_a_file_that_is_no_database_is_an_error_with_a_remedy(store: Path) -> None:
    store.write_bytes(b"this is no database, whatever its name may say" * 100)
    with pytest.raises(EvidenceUnreadable, match="delete it"):
        spot_rows(store)
    with pytest.raises(apsw.NotADBError):
        write(store, batch(report()))


def test_an_empty_file_holds_nothing(store: Path) -> None:
    store.touch()
    assert spot_rows(store) == []
    write(store, batch(report()))
    assert len(spot_rows(store)) == 1


def test_another_releases_file_is_begun_anew(store: Path) -> None:
    write(store, batch(report("GET /old")))
    connection = apsw.Connection(str(store))
    connection.execute("PRAGMA user_version = 99; DROP TABLE route_sizes")
    connection.close()
    assert spot_rows(store) == []
    write(store, batch(report("GET /new")))
    assert [row.route for row in spot_rows(store)] == ["GET /new"]


def test_made_up_methods_are_one_route() -> None:
    batch = spot_store.Batch()
    for number in range(2_000):
        batch.route(f"M{number:04}", "/nothing")
    batch.route("POST", "/slow")
    assert set(batch.routes) == {("OTHER", "/nothing"), ("POST", "/slow")}
