"""Pruning by hand, in small batches, so that the app goes on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...payload.spool import Spool
from ..base import PruneReport
from ..batches import in_turns
from ..host import Host
from . import maintenance
from .maintenance import BATCH, give_space_back, known_files, prune, prune_finished
from .sender import SqliteSender

STRAY = 3600.0
"""Seconds after which a spooled file that no job refers to is removed."""


def prune_now(engine: SqliteSender, host: Host, before: float | None) -> PruneReport:
    """See Engine.prune."""
    spool, size = host.spool, _size(engine.database.path)
    if before is None:
        jobs, files = _prune_expired(engine, host.config.keep_count, spool)
    else:
        jobs, files = _prune_finished(engine, before, spool)
    if spool is not None:
        files += spool.sweep(known_files(engine), STRAY)
    in_turns(lambda: give_space_back(engine) > 0)
    engine.database.checkpoint()
    return PruneReport(jobs, files, size, _size(engine.database.path))


def discard(engine: SqliteSender, host: Host, ids: Sequence[str]) -> int:
    """See Engine.discard_many."""
    now, spool = engine.clock(), host.spool
    count, files = engine.database.write(lambda c: maintenance.discard(c, ids, now))
    if spool is not None:
        spool.remove(files)
    return count


def _prune_expired(engine: SqliteSender, keep_count: int, spool: Spool | None) -> tuple[int, int]:
    jobs = files = 0

    def batch() -> bool:
        nonlocal jobs, files
        pruned = prune(engine, keep_count=keep_count)
        jobs, files = jobs + pruned.jobs, files + len(pruned.files)
        if spool is not None:
            spool.remove(pruned.files)
        return pruned.has_more

    in_turns(batch)
    return jobs, files


def _prune_finished(engine: SqliteSender, moment: float, spool: Spool | None) -> tuple[int, int]:
    jobs = files = last = 0

    def batch() -> bool:
        nonlocal jobs, files, last
        gone, names, last = prune_finished(engine, moment, last)
        jobs, files = jobs + gone, files + len(names)
        if spool is not None:
            spool.remove(names)
        return gone == BATCH

    in_turns(batch)
    return jobs, files


def _size(path: Path) -> int:
    """Bytes of the database and of its write-ahead log."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
