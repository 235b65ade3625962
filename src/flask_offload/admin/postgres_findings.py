"""What `flask offload check` finds about the server, the role, the workers and the jobs."""

from __future__ import annotations

from collections.abc import Iterator

from ..engines.base import Finding
from ..engines.dialect import POSTGRES
from ..engines.host import Host
from ..engines.postgres.connection import PgConnection
from ..engines.postgres.recovery import live_workers
from ..engines.postgres.sender import PostgresSender
from ..errors import OffloadError
from ..textui import show_jobs, show_number
from .findings import schedule_findings, unknown_tasks
from .search import Search

OLDEST = 13_00_00
LATE = 90.0
"""Seconds after which a schedule is late: a living worker looks at least once a minute."""
CLOCK_SKEW = 1.0
"""Seconds by which this machine's clock and the server's may differ."""
OLD_TRANSACTION = 600.0
"""Seconds after which an open transaction is reported: what has died since stays in the indexes
that claims read."""

SETTING = "SELECT current_setting(%s)"
OLDEST_TRANSACTION = """
SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 1
"""
CONNECTIONS = """
SELECT count(*), current_setting('max_connections')::int FROM pg_stat_activity
WHERE backend_type = 'client backend'
"""
NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
WAITING = """
SELECT task, count(*) FROM offload.jobs
WHERE state IN ('scheduled', 'blocked', 'throttled', 'ready') GROUP BY task
"""
READY = """
SELECT count(*), min(enqueued_at) FROM offload.jobs JOIN offload.queues ON name = queue_name
WHERE state = 'ready' AND paused_at IS NULL
"""


def findings(engine: PostgresSender, host: Host) -> Iterator[Finding]:
    """All of them; only the first where the database can't be used."""
    try:
        found = engine.database.read(lambda connection: list(_look(engine, host, connection)))
    except OffloadError as error:
        yield Finding("database", "problem", str(error))
        return
    yield from found


def _look(engine: PostgresSender, host: Host, connection: PgConnection) -> Iterator[Finding]:
    yield from _server(engine, connection)
    yield from _connections(connection)
    yield from _transactions(connection)
    yield from _workers(engine, connection)
    waiting: dict[str, int] = dict(connection.execute(WAITING).fetchall())
    yield from unknown_tasks(waiting, host.registry.find_task)
    known, now = Search(connection, POSTGRES).schedules(), engine.clock()
    late = now - LATE if live_workers(connection) else None
    yield from schedule_findings(known, host.registry.schedules, now, late)


def _server(engine: PostgresSender, connection: PgConnection) -> Iterator[Finding]:
    version = connection.raw.info.server_version
    place = engine.database.place
    text = f"PostgreSQL {version // 10_000}.{version % 10_000} at {place}"
    if version < OLDEST:
        yield Finding("database", "problem", f"{text} is too old: 13 is the oldest that works")
    else:
        yield Finding("database", "ok", f"{text}, schema {connection.schema!r}")
    if engine.database.durable:
        for name in ("fsync", "synchronous_commit"):
            if connection.value(SETTING, (name,)) == "off":
                message = (
                    f"{name} is off: a job that was accepted may be lost when the server's machine"
                    " fails. Turn it on, or set OFFLOAD_DURABILITY to 'process'"
                )
                yield Finding("durability", "problem", message)
    skew = abs(connection.value(NOW) - engine.clock())
    if skew > CLOCK_SKEW:
        message = (
            f"the clocks of this machine and of the server differ by {skew:.1f} s: delays, rates"
            " and schedules of several machines disagree by as much. Let both follow NTP"
        )
        yield Finding("clock", "problem", message)


def _connections(connection: PgConnection) -> Iterator[Finding]:
    used, most = connection.one(CONNECTIONS)
    text = f"{used} of {most} connections are in use"
    if used > 0.8 * most:
        yield Finding(
            "connections",
            "problem",
            f"{text}: raise max_connections, or put a pooler before it (docs/postgres.md)",
        )
    else:
        yield Finding("connections", "ok", text)


def _transactions(connection: PgConnection) -> Iterator[Finding]:
    row = connection.execute(OLDEST_TRANSACTION).fetchone()
    if row is not None and row[1] > OLD_TRANSACTION:
        message = (
            f"the session {row[0]} has had a transaction open for {row[1] / 60:.0f} minutes: until"
            " it ends, no dead row can be removed, and claims become slower with every job"
        )
        yield Finding("transactions", "problem", message)


def _workers(engine: PostgresSender, connection: PgConnection) -> Iterator[Finding]:
    alive = live_workers(connection)
    ready, oldest = connection.one(READY)
    if alive:
        hosts = len({info.host for info in alive})
        yield Finding("workers", "ok", f"{len(alive)} alive on {show_number(hosts, 'machine')}")
    elif ready:
        since = engine.clock() - oldest
        message = (
            f"no worker is alive: {show_jobs(ready)} waiting, the oldest for {since:.0f} s:"
            " start `flask offload worker`, or let the web process keep one (OFFLOAD_WORKER)"
        )
        yield Finding("workers", "problem", message)
    else:
        yield Finding("workers", "note", "no worker is alive at the moment; no job waits for one")
