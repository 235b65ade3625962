"""Keeping the file small: retention, spooled files without a job, space given back to the disk."""

from __future__ import annotations

import json

from .. import counters
from ..store import Pruned
from .connection import Connection
from .limits import forget_limits
from .schema import ADDED_TABLES, SIDE_TABLES
from .sender import SqliteSender

BATCH = 500
"""Jobs deleted in one transaction; more would make an enqueue wait noticeably."""

LONG_LOG = 5 * 1024 * 1024
"""Bytes of write-ahead log; SQLite begins it again at 4 MiB, unless a reader stays for long."""

EXPIRED = f"SELECT seq FROM jobs WHERE expires_at <= ? ORDER BY expires_at LIMIT {BATCH}"
SURPLUS = """
SELECT seq FROM jobs WHERE expires_at IS NOT NULL ORDER BY expires_at
LIMIT min(?, max(0, (SELECT count(*) FROM jobs WHERE expires_at IS NOT NULL) - ?))
"""
EXPIRED_RESULTS = f"""
DELETE FROM results WHERE seq IN (
    SELECT seq FROM results WHERE expires_at <= ? LIMIT {BATCH}
) RETURNING 1
"""
ORPHANS = """
DELETE FROM {table} WHERE seq IN (SELECT seq FROM (SELECT seq FROM {table} ORDER BY seq LIMIT 100)
    WHERE seq NOT IN (SELECT seq FROM jobs))
"""
"""Rows of jobs that an older release has deleted, among the oldest."""


def fold_counters(engine: SqliteSender) -> None:
    """Fold counters of old minutes into coarser ones."""

    def work(connection: Connection) -> None:
        for before, unit in counters.folds(engine.clock()):
            connection.execute(counters.FOLD, (unit, before, unit))
            connection.execute(counters.DELETE_FOLDED, (before, unit))

    engine.database.write(work, promise=False)


def prune(engine: SqliteSender, *, keep_count: int) -> Pruned:
    """Delete a batch of finished jobs whose time is over, or that are more than `keep_count`, and
    of results whose time is over."""
    now = engine.clock()

    def work(connection: Connection) -> Pruned:
        gone = [seq for (seq,) in connection.execute(EXPIRED, (now,))]
        if not gone:
            gone = [seq for (seq,) in connection.execute(SURPLUS, (BATCH, keep_count))]
        files = delete_jobs(connection, gone, now)
        results = connection.execute(EXPIRED_RESULTS, (now,)).fetchall()
        for table in ADDED_TABLES:
            connection.execute(ORPHANS.format(table=table))
        return Pruned(
            jobs=len(gone),
            files=files,
            has_more=len(gone) == BATCH or len(results) == BATCH,
        )

    if not _has_work(engine, now, keep_count):
        return Pruned()
    return engine.database.write(work, promise=False)


def delete_jobs(connection: Connection, seqs: list[int], now: float) -> list[str]:
    """Delete these jobs and all that belongs to them; the names of their spooled files."""
    numbers = (json.dumps(seqs),)
    among = "IN (SELECT value FROM json_each(?))"
    files = connection.execute(
        f"DELETE FROM files WHERE seq {among} RETURNING name", numbers
    ).fetchall()
    for table in SIDE_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE seq {among}", numbers)
    keys = connection.execute(
        f"DELETE FROM jobs WHERE seq {among} RETURNING concurrency_key, rate_key", numbers
    ).fetchall()
    forget_limits(connection, now, [key[0] for key in keys], [key[1] for key in keys])
    return [name for (name,) in files]


def _has_work(engine: SqliteSender, now: float, keep_count: int) -> bool:
    """Look before taking the write lock."""

    def work(connection: Connection) -> bool:
        return bool(
            connection.execute(
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE expires_at <= ?1)"
                " OR EXISTS (SELECT 1 FROM results WHERE expires_at <= ?1)"
                " OR (SELECT count(*) FROM jobs WHERE expires_at IS NOT NULL) > ?2",
                (now, keep_count),
            ).get
        )

    return engine.database.read(work)


def give_space_back(engine: SqliteSender, pages: int = 256, *, reserve: int = 0) -> int:
    """Return up to so many free pages to the file system, and what the write-ahead log has grown;
    how many pages are left to return.

    reserve: free pages that stay, for jobs to come: to shrink the file and to let it grow again all
    the time would be work for nothing.
    """

    def work(connection: Connection) -> int:
        free: int = connection.execute("PRAGMA freelist_count").get - reserve
        if free > 0:
            connection.execute(f"PRAGMA incremental_vacuum({min(pages, free)})").fetchall()
        return max(0, free - pages)

    left = engine.database.write(work, promise=False)
    if left == 0 and is_log_long(engine):
        engine.database.checkpoint()
    return left


def is_log_long(engine: SqliteSender) -> bool:
    """Whether the write-ahead log has grown, as it does during a long read."""
    return _log_size(engine) > LONG_LOG


def _log_size(engine: SqliteSender) -> int:
    path = engine.database.path
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


def known_files(engine: SqliteSender) -> set[str]:
    """The spooled files that some job still refers to."""
    return engine.database.read(
        lambda connection: {name for (name,) in connection.execute("SELECT name FROM files")}
    )


def is_intact(engine: SqliteSender) -> list[str]:
    """What SQLite's quick_check finds wrong; empty if nothing."""

    def work(connection: Connection) -> list[str]:
        return [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]

    found = engine.database.read(work)
    return [] if found == ["ok"] else found
