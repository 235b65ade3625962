"""Retention: deleting jobs and results whose time is over, in batches."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from ...errors import JobNotFound
from .. import counters
from ..dialect import POSTGRES
from ..rows import STATUS
from ..store import Pruned
from .connection import PgConnection
from .limits import admit_idle, forget_limits
from .rows import find
from .schema import ADDED_TABLES, SIDE_TABLES

BATCH = 1000

DELETED = "RETURNING seq, concurrency_key, rate_key"

EXPIRED = f"""
DELETE FROM offload.jobs WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs WHERE expires_at <= %s ORDER BY expires_at, seq LIMIT {BATCH}
    FOR UPDATE SKIP LOCKED
)) {DELETED}
"""
SURPLUS = f"""
DELETE FROM offload.jobs WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs WHERE expires_at IS NOT NULL ORDER BY expires_at, seq
    LIMIT least({BATCH}, greatest(0, (
        SELECT count(*) FROM offload.jobs WHERE expires_at IS NOT NULL
    ) - %s))
    FOR UPDATE SKIP LOCKED
)) {DELETED}
"""
FINISHED_BEFORE = f"""
DELETE FROM offload.jobs WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs
    WHERE state IN ('cancelled', 'failed', 'successful') AND finished_at <= %s LIMIT {BATCH}
    FOR UPDATE SKIP LOCKED
)) {DELETED}
"""
DISCARD = f"DELETE FROM offload.jobs AS j WHERE seq = ANY(%s::bigint[]) {DELETED}"
EXPIRED_RESULTS = f"""
UPDATE offload.jobs SET result = NULL, result_expires_at = NULL WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs WHERE result_expires_at <= %s LIMIT {BATCH}
    FOR UPDATE SKIP LOCKED
))
"""
DELETE_SIDE = "DELETE FROM offload.{table} WHERE seq = ANY(%s::bigint[])"
ORPHANS = """
DELETE FROM offload.{table} WHERE seq IN (
    SELECT seq FROM (SELECT seq FROM offload.{table} ORDER BY seq LIMIT 100) AS oldest
    WHERE NOT EXISTS (SELECT 1 FROM offload.jobs WHERE jobs.seq = oldest.seq))
"""
"""Rows of jobs that an older release has deleted, among the oldest."""
SIZE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'
"""


def fold_counters(connection: PgConnection, now: float) -> None:
    """Fold counters of old minutes into coarser ones."""
    for before, unit in counters.folds(now):
        connection.execute(POSTGRES.sql(counters.FOLD_AT_ONCE), (before, unit, unit))


def prune(connection: PgConnection, now: float, *, keep_count: int) -> Pruned:
    """Delete a batch of finished jobs that have expired, or that are more than `keep_count`, and of
    results that have expired."""
    gone = _delete(connection, EXPIRED, now, now)
    if not gone:
        gone = _delete(connection, SURPLUS, keep_count, now)
    results = connection.execute(EXPIRED_RESULTS, (now,)).rowcount
    if gone:
        for table in ADDED_TABLES:
            connection.execute(ORPHANS.format(table=table))
    admit_idle(connection, now)
    return Pruned(jobs=gone, has_more=gone == BATCH or results == BATCH)


def prune_finished(connection: PgConnection, before: float, now: float) -> int:
    """Delete a batch of the jobs that had finished by `before` (unix seconds), whatever their
    retention says; how many."""
    return _delete(connection, FINISHED_BEFORE, before, now)


def discard(connection: PgConnection, ids: Iterable[str], now: float) -> int:
    """Delete those of these jobs that have ended; how many."""
    gone = set[int]()
    for job_id in ids:
        with suppress(JobNotFound):
            row = find(connection, job_id, lock=True)
            if STATUS[row[5]].is_finished:
                gone.add(row[0])
    return _delete(connection, DISCARD, sorted(gone), now)


def size(connection: PgConnection) -> int:
    """Bytes of all tables and their indexes."""
    return int(connection.value(SIZE, (connection.schema,)))


def _delete(connection: PgConnection, statement: str, parameter: object, now: float) -> int:
    rows = connection.execute(statement, (parameter,)).fetchall()
    if rows:
        numbers = [row[0] for row in rows]
        for table in SIDE_TABLES:
            connection.execute(DELETE_SIDE.format(table=table), (numbers,))
        forget_limits(connection, now, [row[1] for row in rows], [row[2] for row in rows])
    return len(rows)
