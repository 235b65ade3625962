"""The SQLite engine, with all that an app and its operators ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from ..engines.base import Finding, PruneReport
from ..engines.rows import ID
from ..engines.sqlite.connection import Connection
from ..engines.sqlite.engine import SqliteCore
from ..engines.sqlite.schema import SIDE_TABLES
from ..transactions.relayed import RelayedJobs
from .search import seq_range
from .sql import SqlAdmin
from .sqlite_pruning import discard, prune_now

IDS = f"""
SELECT {ID} FROM jobs WHERE given_id BETWEEN ? AND ? || 'g'
UNION ALL
SELECT id FROM jobs
WHERE seq BETWEEN ? AND ? AND substr(id, 1, ?) = ? AND given_id IS NULL LIMIT 2
"""


class SqliteEngine(SqlAdmin[Connection], RelayedJobs[Connection], SqliteCore):
    """Jobs in one SQLite file."""

    tables: ClassVar[tuple[str, ...]] = (
        "jobs",
        *SIDE_TABLES,
        "files",
        "limits",
        "starts",
        "schedules",
    )

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so: their numbers are a range."""
        found = seq_range(beginning)
        if found is None:
            return []
        bindings = (beginning, beginning, *found, len(beginning), beginning)
        rows = self.database.read(lambda connection: connection.execute(IDS, bindings).fetchall())
        return [job_id for (job_id,) in rows]

    def prune(self, before: float | None = None) -> PruneReport:
        """Delete finished jobs, and give their space back to the file system."""
        return prune_now(self, self.host, before)

    def discard_many(self, ids: Sequence[str]) -> int:
        """Delete those of these jobs that have ended."""
        return discard(self, self.host, ids)

    def findings(self) -> Iterable[Finding]:
        """What is wrong with the file, its workers and its jobs."""
        from .sqlite_findings import findings  # only one command needs it

        return findings(self, self.host)
