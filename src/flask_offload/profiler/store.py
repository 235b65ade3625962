"""The evidence file: what routes cost and what blocked them. Bounded, beside the database.

Written by the sampler of every web process, every few seconds; read by `flask offload spot`. It is
opened for each write, so that no connection is inherited over a fork.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from ..errors import OffloadError
from .queue_time import queue_seconds
from .spot_report import UNKNOWN, SpotReport

DAYS = 7
"""Days that evidence is kept. The bound of the file: DAYS * (routes + MAX_BLOCKERS) small rows."""
MAX_BLOCKERS = 500
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
)
MAX_ROUTES = 1000
MAX_SAMPLES = 1000
"""Durations of one route that are looked at for one write; of more, evenly spread ones."""
_TABLES = ("route_times", "route_sizes", "blockers")
_VERSION = 3
_WRITER_WAITS, _READER_WAITS = 250, 10_000
"""Milliseconds for which another process may have the file locked."""
_DAY = 86_400
_STEPS = 32
"""Buckets for each doubling of a duration: percentiles are exact to 1.1%."""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS route_times (      -- how many requests took how long
  day INTEGER, route TEXT, bucket INTEGER, requests INTEGER,
  PRIMARY KEY (day, route, bucket)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS route_sizes (      -- where it is known: response size, time in the queue
  day INTEGER, route TEXT, sized INTEGER, bytes INTEGER, queued INTEGER, queue_ms REAL,
  PRIMARY KEY (day, route)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blockers (         -- what was found about slow requests
  day INTEGER, route TEXT, function TEXT, file TEXT, line INTEGER, waiting INTEGER,
  reports INTEGER, request_ms REAL, blocked_ms REAL,
  queries INTEGER, advice TEXT, sentence TEXT, seen_at REAL,
  PRIMARY KEY (day, route, function, file)
) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""


class EvidenceUnreadable(OffloadError):
    """The evidence file can't be read: delete it, the next slow request creates another."""


@dataclass(slots=True)
class RouteBatch:
    """Requests of one route, unprocessed. seconds: how long they took. arrivals: a proxy's header
    with the time of arrival, and when the app began (unix seconds). lengths: of the responses."""

    seconds: list[float] = field(default_factory=list)
    arrivals: list[tuple[str | None, float]] = field(default_factory=list)
    lengths: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _BlockerTotals:
    line: int = 0
    waiting: bool | None = None
    reports: int = 0
    request_ms: float = 0.0
    blocked_ms: float = 0.0
    queries: int = 0
    advice: str = ""
    sentence: str = ""
    seen_at: float = 0.0


@dataclass(slots=True)
class Batch:
    """What was recorded since the last write. A route is a method and a rule."""

    routes: dict[tuple[str, str], RouteBatch] = field(default_factory=dict)
    blockers: dict[tuple[str, str, str], _BlockerTotals] = field(default_factory=dict)

    def route(self, method: str, rule: str) -> RouteBatch:
        """The requests of a route; creates the entry."""
        method = known_method(method)
        known = self.routes.get((method, rule))
        if known is None:
            known = self.routes[method, rule] = RouteBatch()
        return known

    def add_report(self, found: SpotReport) -> None:
        """Count what was found about a slow request; only its largest blocker."""
        blocker = found.blockers[0] if found.blockers else UNKNOWN
        key = (found.route, blocker.function, blocker.file)
        if key not in self.blockers and len(self.blockers) >= MAX_BLOCKERS:
            return
        totals = self.blockers.setdefault(key, _BlockerTotals())
        totals.reports += 1
        totals.request_ms += found.seconds * 1000
        totals.blocked_ms += found.seconds * 1000 * blocker.share
        totals.line, totals.waiting = blocker.line, blocker.waiting
        totals.queries, totals.advice = found.queries, blocker.advice
        totals.sentence, totals.seen_at = found.sentence, time.time()


def known_method(method: str) -> str:
    """A method, or "OTHER" for all that HTTP does not know, so that made-up ones can't use up the
    space for routes."""
    return method if method in METHODS else "OTHER"


def buckets_of(durations: list[float]) -> Counter[int]:
    """How many of these seconds fall into each bucket; buckets grow with the logarithm.

    Of more than MAX_SAMPLES it takes every second, third, ... and counts it as many times, which
    bounds the work on a busy server. The sum stays exact.
    """
    step = len(durations) // MAX_SAMPLES + 1
    taken = Counter([int(math.log2(seconds * 1e6 + 1) * _STEPS) for seconds in durations[::step]])
    buckets = Counter({bucket: count * step for bucket, count in taken.items()})
    excess = buckets.total() - len(durations)  # less than one step
    if excess:
        buckets[max(buckets, key=lambda bucket: buckets[bucket])] -= excess
    return buckets


def milliseconds_of(bucket: int) -> float:
    """The duration that a bucket stands for, its middle."""
    return float(2 ** ((bucket + 0.5) / _STEPS) - 1) / 1000


@contextmanager
def _opened(path: Path, wait: int) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(wait)
        yield connection
    finally:
        connection.close()


def write(path: Path, batch: Batch) -> None:
    """Add a batch to the file, all or nothing. Raises apsw.Error and OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    today = int(time.time()) // _DAY
    with _opened(path, _WRITER_WAITS) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        _prepare(connection)
        _add_routes(connection, batch, today)
        _add_blockers(connection, batch, today)
        _prune(connection, today)
        connection.execute("COMMIT")


def _prepare(connection: apsw.Connection) -> None:
    version = connection.execute("PRAGMA user_version").get
    if version != _VERSION:
        if version:  # written by another release; a week of samples is not worth a migration
            tables = _select(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'")
            for (table,) in tables:
                connection.execute(f"DROP TABLE {table}")
        connection.execute(_SCHEMA)


def _add_routes(connection: apsw.Connection, batch: Batch, today: int) -> None:
    known = {
        route
        for (route,) in connection.execute("SELECT route FROM route_sizes WHERE day = ?", (today,))
    }
    for (method, rule), requests in batch.routes.items():
        route = f"{method} {rule}"
        if route not in known and len(known) >= MAX_ROUTES:
            continue
        known.add(route)
        lengths = requests.lengths[:: len(requests.lengths) // MAX_SAMPLES + 1]
        sizes = [int(length) for length in lengths if length.isdecimal()]
        arrivals = requests.arrivals[:: len(requests.arrivals) // MAX_SAMPLES + 1]
        waits = (queue_seconds(*arrival) for arrival in arrivals)
        queued = [seconds for seconds in waits if seconds is not None]
        buckets = buckets_of(requests.seconds)
        connection.executemany(
            "INSERT INTO route_times VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
            [(today, route, bucket, count) for bucket, count in buckets.items()],
        )
        connection.execute(
            "INSERT INTO route_sizes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " sized = sized + excluded.sized, bytes = bytes + excluded.bytes,"
            " queued = queued + excluded.queued, queue_ms = queue_ms + excluded.queue_ms",
            (
                today,
                route,
                len(sizes),
                sum(sizes),
                len(queued),
                sum(queued) * 1000,
            ),
        )


def _add_blockers(connection: apsw.Connection, batch: Batch, today: int) -> None:
    connection.executemany(
        f"INSERT INTO blockers VALUES (?{', ?' * 12}) ON CONFLICT DO UPDATE SET"
        " line = excluded.line, waiting = excluded.waiting, reports = reports + excluded.reports,"
        " request_ms = request_ms + excluded.request_ms,"
        " blocked_ms = blocked_ms + excluded.blocked_ms,"
        " queries = excluded.queries, advice = excluded.advice,"
        " sentence = excluded.sentence, seen_at = excluded.seen_at",
        [
            (
                today,
                *key,
                totals.line,
                totals.waiting,
                totals.reports,
                totals.request_ms,
                totals.blocked_ms,
                totals.queries,
                totals.advice,
                totals.sentence,
                totals.seen_at,
            )
            for key, totals in batch.blockers.items()
        ],
    )


def _prune(connection: apsw.Connection, today: int) -> None:
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE day <= ?", (today - DAYS,))
    connection.execute(
        "DELETE FROM blockers WHERE seen_at <"
        " (SELECT seen_at FROM blockers ORDER BY seen_at DESC LIMIT 1 OFFSET ?)",
        (MAX_BLOCKERS - 1,),
    )


@dataclass(frozen=True, slots=True)
class SpotRow:
    """A route and what blocks it, over the days that are kept.

    count, p50_ms, p95_ms: of all profiled requests of the route, not only the slow ones.
    function, file, line: the blocker that cost most time. share: its part of the slow requests, 0
    to 1. waiting: it waited (True) or computed (False); None: not known. queries: SQL statements of
    a request. advice: "task", "respond_async", "query", "cache" or "leave". sentence: what was seen
    and what to do. The last three are of the latest slow request.
    """

    route: str
    count: int
    p50_ms: float
    p95_ms: float
    function: str
    file: str
    line: int
    share: float
    waiting: bool | None
    queries: int
    advice: str
    sentence: str


@dataclass(frozen=True, slots=True)
class RouteRow:
    """What a route costs, over the days that are kept.

    mean_bytes: of the responses with a known length. mean_queue_ms: time in the queue before the
    server began, of the requests for which a proxy reported it. None: of none.
    """

    route: str
    count: int
    p50_ms: float
    p95_ms: float
    mean_bytes: float | None
    mean_queue_ms: float | None


def spot_rows(path: Path) -> list[SpotRow]:
    """The routes that were blocked, those that lost most time first.

    Empty if there is no evidence file. Raises EvidenceUnreadable.
    """
    with _reading(path) as connection:
        if connection is None:
            return []
        times = _times(connection)
        found = _select(
            connection,
            # a bare column next to max() is taken from the row that holds the maximum
            "SELECT route, function, file, line, waiting, queries, advice, sentence,"
            " sum(request_ms), sum(blocked_ms), max(seen_at)"
            " FROM blockers GROUP BY route, function, file ORDER BY sum(blocked_ms) DESC",
        )
    rows: dict[str, SpotRow] = {}
    for route, function, file, line, waiting, *latest, request_ms, blocked_ms, _ in found:
        if route in rows:
            continue  # its worst blocker came first
        count, p50_ms, p95_ms = times.get(route, (0, 0.0, 0.0))
        rows[route] = SpotRow(
            route,
            count,
            p50_ms,
            p95_ms,
            function,
            file,
            line,
            round(min(blocked_ms / request_ms, 1.0), 3),
            None if waiting is None else bool(waiting),
            *latest,
        )
    return list(rows.values())


def route_rows(path: Path) -> list[RouteRow]:
    """What each profiled route costs, by name. Empty without a file. Raises EvidenceUnreadable."""
    with _reading(path) as connection:
        if connection is None:
            return []
        times = _times(connection)
        sizes = _select(
            connection,
            "SELECT route, sum(bytes) * 1.0 / sum(sized), sum(queue_ms) / sum(queued)"
            " FROM route_sizes GROUP BY route ORDER BY route",
        )
    return [
        RouteRow(route, *times[route], mean_bytes, mean_queue_ms)
        for route, mean_bytes, mean_queue_ms in sizes
        if route in times
    ]


def sentences_since(path: Path, moment: float) -> dict[str, str]:
    """The latest sentence about each route that was found blocked at that moment (unix seconds) or
    later. Empty if there is no evidence file. Raises EvidenceUnreadable."""
    with _reading(path) as connection:
        if connection is None:
            return {}
        # a bare column next to max() is taken from the row that holds the maximum
        sql = "SELECT route, sentence, max(seen_at) FROM blockers WHERE seen_at >= ? GROUP BY route"
        return {route: sentence for route, sentence, _ in connection.execute(sql, (moment,))}


def forget_samples(path: Path) -> None:
    """Delete all evidence, to begin again after a change. Raises EvidenceUnreadable."""
    with _reading(path) as connection:
        if connection is not None:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection | None]:
    """The file, None if there is none yet."""
    if not path.exists():
        yield None
        return
    try:
        with _opened(path, _READER_WAITS) as connection:
            yield connection if connection.execute("PRAGMA user_version").get == _VERSION else None
    except apsw.BusyError as error:
        raise EvidenceUnreadable(f"{path} is locked by another process: try again") from error
    except apsw.Error as error:
        raise EvidenceUnreadable(
            f"{path} can't be read ({error}): delete it, the next slow request creates another"
        ) from error


def _select(connection: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def _times(connection: apsw.Connection) -> dict[str, tuple[int, float, float]]:
    """Count, median and 95th percentile (nearest rank) of each route."""
    buckets: dict[str, list[tuple[int, int]]] = {}
    for route, bucket, requests in _select(
        connection,
        "SELECT route, bucket, sum(requests) FROM route_times GROUP BY route, bucket"
        " ORDER BY route, bucket",
    ):
        buckets.setdefault(route, []).append((bucket, requests))
    return {
        route: (
            sum(requests for _, requests in counted),
            _percentile(counted, 50),
            _percentile(counted, 95),
        )
        for route, counted in buckets.items()
    }


def _percentile(counted: list[tuple[int, int]], percent: int) -> float:
    rank = math.ceil(sum(requests for _, requests in counted) * percent / 100)
    for bucket, requests in counted:
        rank -= requests
        if rank <= 0:
            return round(milliseconds_of(bucket), 1)
    raise AssertionError("a route without requests has no rows")
