"""Keeping the file small: retention, spooled files nobody needs, space given back to the disk."""

from __future__ import annotations

import json

from .connection import Connection
from .engine import SqliteEngine
from .schema import SIDE_TABLES

BATCH = 500
"""Jobs deleted in one transaction; more would make an enqueue wait noticeably."""

EXPIRED = f"SELECT seq FROM jobs WHERE expires_at <= ? ORDER BY expires_at LIMIT {BATCH}"
SURPLUS = """
SELECT seq FROM jobs WHERE expires_at IS NOT NULL ORDER BY expires_at
LIMIT min(?, max(0, (SELECT count(*) FROM jobs WHERE expires_at IS NOT NULL) - ?))
"""
FINISHED_BEFORE = f"""
SELECT seq FROM jobs WHERE seq > ? AND finished_at <= ? ORDER BY seq LIMIT {BATCH}
"""


def prune(engine: SqliteEngine, *, keep_count: int) -> tuple[int, list[str]]:
    """Delete a batch of finished jobs whose time is over, or that are more than `keep_count`.

    Returns how many jobs went (a full BATCH: there may be more), and the names of spooled files
    that went with them.
    """
    now = engine.clock()

    def work(connection: Connection) -> tuple[int, list[str]]:
        gone = [seq for (seq,) in connection.execute(EXPIRED, (now,))]
        if not gone:
            gone = [seq for (seq,) in connection.execute(SURPLUS, (BATCH, keep_count))]
        files = _delete(connection, gone)
        connection.execute(
            "DELETE FROM results WHERE seq IN"
            f" (SELECT seq FROM results WHERE expires_at <= ? LIMIT {BATCH})",
            (now,),
        )
        return len(gone), files

    if not _has_work(engine, now, keep_count):
        return 0, []
    return engine.database.write(work, promise=False)


def prune_finished(
    engine: SqliteEngine, before: float, after_seq: int = 0
) -> tuple[int, list[str], int]:
    """Delete a batch of the jobs that had finished by `before` (unix seconds), whatever their
    retention says.

    Returns how many went, the names of spooled files that went with them, and the `after_seq` for
    the next batch.
    """

    def work(connection: Connection) -> tuple[int, list[str], int]:
        gone = [seq for (seq,) in connection.execute(FINISHED_BEFORE, (after_seq, before))]
        return len(gone), _delete(connection, gone), gone[-1] if gone else after_seq

    return engine.database.write(work, promise=False)


def _delete(connection: Connection, seqs: list[int]) -> list[str]:
    """Delete these jobs and all that belongs to them; the names of their spooled files."""
    numbers = (json.dumps(seqs),)
    among = "IN (SELECT value FROM json_each(?))"
    files = connection.execute(
        f"DELETE FROM files WHERE seq {among} RETURNING name", numbers
    ).fetchall()
    for table in (*SIDE_TABLES, "jobs"):
        connection.execute(f"DELETE FROM {table} WHERE seq {among}", numbers)
    return [name for (name,) in files]


def _has_work(engine: SqliteEngine, now: float, keep_count: int) -> bool:
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


def give_space_back(engine: SqliteEngine, pages: int = 256) -> int:
    """Return up to so many free pages to the file system; how many are left to return."""

    def work(connection: Connection) -> int:
        free: int = connection.execute("PRAGMA freelist_count").get
        if free:
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return max(0, free - pages)

    return engine.database.write(work, promise=False)


def known_files(engine: SqliteEngine) -> set[str]:
    """The spooled files that some job still refers to."""
    return engine.database.read(
        lambda connection: {name for (name,) in connection.execute("SELECT name FROM files")}
    )


def is_intact(engine: SqliteEngine) -> list[str]:
    """What SQLite's quick_check finds wrong; empty if nothing."""

    def work(connection: Connection) -> list[str]:
        return [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]

    found = engine.database.read(work)
    return [] if found == ["ok"] else found
