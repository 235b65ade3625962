"""What became of attempts, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...jobs.attempt import Claim, Outcome
from ...jobs.job import JobStatus
from ..attempt_writes import HELD_COLUMNS, AttemptStatements, AttemptWrites, HeldRow
from ..dialect import POSTGRES
from ..rows import DUE_STATE
from .connection import PgConnection
from .limits import take_back_start

FENCE = "seq = %s AND attempt = %s AND worker = %s AND state = 'running'"

SUCCEED = """
UPDATE offload.jobs AS j SET state = 'successful', started_at = o.started_at,
    finished_at = o.finished_at, expires_at = o.expires_at, result = o.result,
    result_expires_at = o.result_expires_at
FROM unnest(%s::bigint[], %s::int[], %s::float8[], %s::float8[], %s::float8[], %s::text[],
    %s::float8[])
    AS o (seq, attempt, started_at, finished_at, expires_at, result, result_expires_at)
WHERE j.seq = o.seq AND j.attempt = o.attempt AND j.worker = %s AND j.state = 'running'
RETURNING j.seq, j.attempt, j.concurrency_key, j.rate_key, j.task, j.enqueued_at, j.run_after
"""

UNCLAIM_CANCELLED = """
UPDATE offload.jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    state = 'cancelled', finished_at = %s, expires_at = %s
WHERE seq = %s
"""

UNCLAIM = f"""
UPDATE offload.jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    run_after = coalesce(%s, run_after),
    state = CASE WHEN %s THEN 'scheduled' ELSE {DUE_STATE} END
WHERE seq = %s
"""

STATEMENTS = AttemptStatements(
    held=f"""
SELECT {HELD_COLUMNS} FROM offload.jobs WHERE {FENCE} FOR UPDATE
""",
    end="""
UPDATE offload.jobs SET state = %s, failures = %s, crashes = %s, started_at = %s, finished_at = %s,
    expires_at = %s
WHERE seq = %s
""",
    ready_again=f"""
UPDATE offload.jobs SET worker = NULL, failures = %s, crashes = %s, started_at = %s, lane = %s,
    run_after = %s, state = CASE WHEN %s THEN 'scheduled' ELSE {DUE_STATE} END
WHERE seq = %s
""",
    report=f"""
UPDATE offload.jobs SET done = %s, total = %s, message = %s, cursor = coalesce(%s, cursor)
WHERE {FENCE}
""",
    attempt="""
INSERT INTO offload.attempts (seq, number, worker, started_at, finished_at, outcome, error_type,
    error_message, traceback)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (seq, number) DO UPDATE SET worker = excluded.worker,
    started_at = excluded.started_at, finished_at = excluded.finished_at,
    outcome = excluded.outcome, error_type = excluded.error_type,
    error_message = excluded.error_message, traceback = excluded.traceback
""",
    log=f"""
INSERT INTO offload.logs (lines, seq, attempt)
SELECT %s::text, seq, attempt FROM offload.jobs WHERE {FENCE} FOR SHARE
ON CONFLICT (seq, attempt) DO UPDATE SET lines = excluded.lines
""",
    forget_log="DELETE FROM offload.logs WHERE seq = %s AND attempt <= %s",
)


@dataclass
class BatchCompletion(AttemptWrites[PgConnection]):
    """One worker's writes about its attempts, in one transaction; successes in one statement."""

    sql = STATEMENTS
    dialect = POSTGRES

    def unclaim(self, held: Claim | Outcome, *, delay: float = 0.0) -> None:
        """See AttemptWrites.unclaim."""
        row = self.connection.execute(self.sql.held, self.fence(held)).fetchone()
        if row is None:
            return
        job = HeldRow(*row)
        if job.cancel:
            keep = self.retention.unsuccessful(job.task, JobStatus.CANCELLED, job.options)
            expires_at = self.now + keep
            self.connection.execute(UNCLAIM_CANCELLED, (self.now, expires_at, held.seq))
        else:
            run_after = self.now + delay if delay else None
            self.connection.execute(UNCLAIM, (run_after, bool(delay), held.seq))
        if job.rate_key is not None:
            take_back_start(self.connection, job.rate_key)
        self.freed.add(job.concurrency_key, job.rate_key)

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
