"""What became of attempts, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...jobs.attempt import Outcome
from ...jobs.job import JobStatus
from ..attempt_writes import AttemptStatements, AttemptWrites
from ..dialect import POSTGRES
from .connection import PgConnection
from .limits import take_back_start

# Each row is found by its number: the index of running jobs also has the entries of all that ended
# since the oldest open transaction began.
SUCCEED = """
UPDATE offload.jobs AS j SET state = 'successful', started_at = o.started_at,
    finished_at = o.finished_at, expires_at = o.expires_at, result = o.result,
    result_expires_at = o.result_expires_at
FROM unnest(%s::bigint[], %s::int[], %s::float8[], %s::float8[], %s::float8[], %s::text[],
    %s::float8[])
    AS o (seq, attempt, started_at, finished_at, expires_at, result, result_expires_at)
WHERE j.seq = o.seq AND j.attempt = o.attempt AND j.state || j.worker = 'running' || %s::text
RETURNING j.seq, j.attempt, j.concurrency_key, j.rate_key, j.task, j.enqueued_at, j.run_after
"""


@dataclass
class BatchCompletion(AttemptWrites[PgConnection]):
    """One worker's writes about its attempts, in one transaction; successes in one statement."""

    sql = AttemptStatements.of(POSTGRES)
    dialect = POSTGRES

    def take_back_start(self, rate_key: str) -> None:
        """See AttemptWrites.take_back_start."""
        take_back_start(self.connection, rate_key)

    def succeed(self, outcomes: Sequence[Outcome]) -> set[tuple[int, int]]:
        """See AttemptWrites.succeed."""
        columns: list[list[object]] = [[] for _ in range(7)]
        for outcome in outcomes:
            keep = self.retention.successful if outcome.keep is None else outcome.keep
            ttl = outcome.result_ttl if outcome.result is not None else None
            row = (
                outcome.seq,
                outcome.attempt,
                outcome.started_at,
                outcome.finished_at,
                self.now + keep,
                outcome.result,
                None if ttl is None else self.now + ttl,
            )
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        done = set()
        by_seq = {outcome.seq: outcome for outcome in outcomes}
        rows = self.connection.execute(SUCCEED, (*columns, self.worker_id))
        for seq, attempt, concurrency_key, rate_key, task, *dates in rows:
            done.add((seq, attempt))
            self.freed.add(concurrency_key, rate_key)
            self.count(by_seq[seq], task, JobStatus.SUCCESSFUL, *dates)
        return done
