"""Pruning by hand, in small batches, so that the app goes on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..engines.base import PruneReport
from ..engines.host import Host
from ..engines.rows import STATUS
from ..engines.sqlite.connection import Connection
from ..engines.sqlite.maintenance import (
    BATCH,
    delete_jobs,
    give_space_back,
    known_files,
    prune,
)
from ..engines.sqlite.rows import find
from ..engines.sqlite.sender import SqliteSender
from ..engines.store import Pruned
from ..errors import JobNotFound
from .bulk import in_turns

STRAY = 3600.0
"""Seconds after which a spooled file that no job refers to is removed."""

FINISHED_BEFORE = f"""
SELECT seq FROM jobs WHERE seq > ? AND finished_at <= ? ORDER BY seq LIMIT {BATCH}
"""


def prune_now(engine: SqliteSender, host: Host, before: float | None) -> PruneReport:
    """See Engine.prune."""
    spool, size = host.spool, _size(engine.database.path)
    jobs = files = last = 0

    def finished(moment: float) -> Pruned:
        nonlocal last
        gone, names, last = prune_finished(engine, moment, last)
        return Pruned(gone, names, gone == BATCH)

    def batch() -> bool:
        nonlocal jobs, files
        if before is None:
            pruned = prune(engine, keep_count=host.config.keep_count)
        else:
            pruned = finished(before)
        jobs, files = jobs + pruned.jobs, files + len(pruned.files)
        if spool is not None:
            spool.remove(pruned.files)
        return pruned.has_more

    in_turns(batch)
    if spool is not None:
        files += spool.sweep(known_files(engine), STRAY)
    in_turns(lambda: give_space_back(engine) > 0)
    engine.database.checkpoint()
    return PruneReport(jobs, files, size, _size(engine.database.path))


def prune_finished(
    engine: SqliteSender, before: float, after_seq: int = 0
) -> tuple[int, list[str], int]:
    """Delete a batch of the jobs that had finished by `before` (unix seconds), whatever their
    retention.

    Returns how many went, the names of spooled files that went with them, and the `after_seq` for
    the next batch.
    """
    now = engine.clock()

    def work(connection: Connection) -> tuple[int, list[str], int]:
        gone = [seq for (seq,) in connection.execute(FINISHED_BEFORE, (after_seq, before))]
        return len(gone), delete_jobs(connection, gone, now), gone[-1] if gone else after_seq

    return engine.database.write(work, promise=False)


def discard(engine: SqliteSender, host: Host, ids: Sequence[str]) -> int:
    """See Engine.discard_many."""
    now = engine.clock()

    def work(connection: Connection) -> tuple[int, list[str]]:
        gone = set[int]()
        for job_id in ids:
            with suppress(JobNotFound):
                row = find(connection, job_id)
                if STATUS[row[5]].is_finished:
                    gone.add(row[0])
        return len(gone), delete_jobs(connection, sorted(gone), now)

    count, files = engine.database.write(work)
    if host.spool is not None:
        host.spool.remove(files)
    return count


def _size(path: Path) -> int:
    """Bytes of the database and of its write-ahead log."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
