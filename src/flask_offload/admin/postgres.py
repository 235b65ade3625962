"""The PostgreSQL engine, with all that an app and its operators ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from ..engines.base import Finding, PruneReport
from ..engines.postgres.connection import PgConnection
from ..engines.postgres.engine import PostgresCore
from ..engines.postgres.maintenance import BATCH, discard, prune, prune_finished, size
from ..engines.postgres.schema import SIDE_TABLES
from ..transactions.relayed import RelayedJobs
from .bulk import in_turns
from .search import seq_range
from .sql import SqlAdmin

IDS = """
SELECT given_id FROM offload.jobs
WHERE given_id COLLATE "C" BETWEEN %s AND %s || 'g'
UNION ALL
SELECT id FROM offload.jobs
WHERE seq BETWEEN %s AND %s AND starts_with(id, %s) AND given_id IS NULL LIMIT 2
"""


class PostgresEngine(SqlAdmin[PgConnection], RelayedJobs[PgConnection], PostgresCore):
    """Jobs in a PostgreSQL database."""

    tables: ClassVar[tuple[str, ...]] = ("jobs", *SIDE_TABLES, "limits", "starts", "schedules")

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so: their numbers are a range."""
        found = seq_range(beginning)
        if found is None or not beginning.isascii() or "\0" in beginning or found[0] < 0:
            return []
        bindings = (beginning, beginning, *found, beginning)
        rows = self.database.read(lambda connection: connection.execute(IDS, bindings).fetchall())
        return [job_id for (job_id,) in rows]

    def prune(self, before: float | None = None) -> PruneReport:
        """Delete finished jobs; autovacuum makes their space usable again."""
        keep_count = self.host.config.keep_count
        bytes_before = self.database.read(size)
        jobs = 0

        def delete(connection: PgConnection) -> tuple[int, bool]:
            now = self.clock()
            if before is not None:
                gone = prune_finished(connection, before, now)
                return gone, gone == BATCH
            pruned = prune(connection, now, keep_count=keep_count)
            return pruned.jobs, pruned.has_more

        def batch() -> bool:
            nonlocal jobs
            gone, has_more = self.database.write(delete, promise=False)
            jobs += gone
            return has_more

        in_turns(batch)
        return PruneReport(jobs, 0, bytes_before, self.database.read(size))

    def discard_many(self, ids: Sequence[str]) -> int:
        """Delete those of these jobs that have ended."""
        now = self.clock()
        return self.database.write(lambda connection: discard(connection, ids, now))

    def findings(self) -> Iterable[Finding]:
        """What is wrong with the server, the role, the workers and the jobs."""
        from .postgres_findings import findings  # only one command needs it

        return findings(self, self.host)
