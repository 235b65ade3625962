"""What became of attempts, written down inside a transaction of the caller.

Every write about an attempt is fenced: it counts only while that very attempt is still held by this
worker. What comes too late (from a worker that was stopped or given up) is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...jobs.attempt import Claim, Ending, Outcome, Report
from ...jobs.job import Error, JobStatus
from ...jobs.new_job import QUARANTINED
from ...jobs.transition import follow
from ..rows import Freed
from ..store import Retention
from .connection import PgConnection
from .limits import IN_LINE, take_back_start

FENCE = "seq = %s AND attempt = %s AND worker = %s AND state = 'running'"

SUCCEED = """
UPDATE offload.jobs AS j SET state = 'successful', started_at = o.started_at,
    finished_at = o.finished_at, expires_at = o.expires_at, result = o.result,
    result_expires_at = o.result_expires_at
FROM unnest(%s::bigint[], %s::int[], %s::float8[], %s::float8[], %s::float8[], %s::text[],
    %s::float8[])
    AS o (seq, attempt, started_at, finished_at, expires_at, result, result_expires_at)
WHERE j.seq = o.seq AND j.attempt = o.attempt AND j.worker = %s AND j.state = 'running'
RETURNING j.seq, j.attempt, j.concurrency_key, j.rate_key
"""

HELD = f"""
SELECT concurrency_key, rate_key, failures, crashes, on_crash, cancel, lane, task FROM offload.jobs
WHERE {FENCE} FOR UPDATE
"""

# These follow HELD in the same transaction, which has looked at the fence.
END = """
UPDATE offload.jobs SET state = %s, failures = %s, crashes = %s, started_at = %s, finished_at = %s,
    expires_at = %s
WHERE seq = %s
"""

READY_AGAIN = f"""
UPDATE offload.jobs SET worker = NULL, failures = %s, crashes = %s, started_at = %s, lane = %s,
    run_after = %s, state = CASE WHEN %s THEN 'scheduled' ELSE {IN_LINE} END
WHERE seq = %s
"""

UNCLAIM_CANCELLED = """
UPDATE offload.jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    state = 'cancelled', finished_at = %s, expires_at = %s
WHERE seq = %s
"""

UNCLAIM = f"""
UPDATE offload.jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    run_after = coalesce(%s, run_after),
    state = CASE WHEN %s THEN 'scheduled' ELSE {IN_LINE} END
WHERE seq = %s
"""

REPORT = f"""
UPDATE offload.jobs SET done = %s, total = %s, message = %s, cursor = coalesce(%s, cursor)
WHERE {FENCE}
"""

ATTEMPT = """
INSERT INTO offload.attempts (seq, number, worker, started_at, finished_at, outcome, error_type,
    error_message, traceback)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (seq, number) DO UPDATE SET worker = excluded.worker,
    started_at = excluded.started_at, finished_at = excluded.finished_at,
    outcome = excluded.outcome, error_type = excluded.error_type,
    error_message = excluded.error_message, traceback = excluded.traceback
"""


@dataclass
class AttemptWrites:
    """One worker's writes about its attempts, in one transaction. now: unix seconds."""

    connection: PgConnection
    worker_id: str
    retention: Retention
    now: float
    freed: Freed = field(default_factory=Freed)

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write outcomes down; those that came too late."""
        successful = [each for each in outcomes if each.ending is Ending.SUCCESSFUL]
        done = self._succeed(successful) if successful else set()
        refused = [each for each in successful if (each.seq, each.attempt) not in done]
        for outcome in outcomes:
            if outcome.ending is not Ending.SUCCESSFUL and not self._finish_badly(outcome):
                refused.append(outcome)
        return refused

    def unclaim(self, held: Claim | Outcome, *, delay: float = 0.0) -> None:
        """A job that was claimed and has not started is READY again, as if nothing had been;
        CANCELLED if it was asked to stop. delay: seconds before it may be claimed again."""
        row = self.connection.execute(HELD, self._fence(held)).fetchone()
        if row is None:
            return
        concurrency_key, rate_key, *_, cancel, _, task = row
        if cancel:
            expires_at = self.now + self.retention.unsuccessful(task, JobStatus.CANCELLED)
            self.connection.execute(UNCLAIM_CANCELLED, (self.now, expires_at, held.seq))
        else:
            run_after = self.now + delay if delay else None
            self.connection.execute(UNCLAIM, (run_after, bool(delay), held.seq))
        if rate_key is not None:
            take_back_start(self.connection, rate_key)
        self.freed.add(concurrency_key, rate_key)

    def report(self, report: Report) -> None:
        """Write down progress and a cursor."""
        self.connection.execute(
            REPORT,
            (report.done, report.total, report.message, report.cursor, *self._fence(report)),
        )

    def _fence(self, held: Outcome | Claim | Report) -> tuple[int, int, str]:
        return held.seq, held.attempt, self.worker_id

    def _succeed(self, outcomes: Sequence[Outcome]) -> set[tuple[int, int]]:
        """Write down successes; (seq, attempt) of those that this worker still held."""
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
        for seq, attempt, *keys in self.connection.execute(SUCCEED, (*columns, self.worker_id)):
            done.add((seq, attempt))
            self.freed.add(*keys)
        return done

    def _finish_badly(self, outcome: Outcome) -> bool:
        row = self.connection.execute(HELD, self._fence(outcome)).fetchone()
        if row is None:
            return False
        concurrency_key, rate_key, failures, crashes, on_crash, cancel, lane, task = row
        self.freed.add(concurrency_key, rate_key)
        what = follow(
            outcome,
            failures=failures,
            crashes=crashes,
            on_crash=on_crash,
            cancel_requested=bool(cancel),
        )
        self._note_attempt(outcome, what.error)
        counts = (what.failures, what.crashes)
        if what.status is JobStatus.READY:
            is_later = what.after > 0
            run_after = self.now + what.after if is_later else None
            lane = QUARANTINED if what.is_quarantined else lane
            values = (*counts, outcome.started_at, lane, run_after, is_later)
            self.connection.execute(READY_AGAIN, (*values, outcome.seq))
        else:
            keep = outcome.keep
            if keep is None:
                keep = self.retention.unsuccessful(task, what.status)
            times = (outcome.started_at, outcome.finished_at, self.now + keep)
            state = what.status.lower()
            self.connection.execute(END, (state, *counts, *times, outcome.seq))
        return True

    def _note_attempt(self, outcome: Outcome, error: Error | None) -> None:
        self.connection.execute(
            ATTEMPT,
            (
                outcome.seq,
                outcome.attempt,
                self.worker_id,
                outcome.started_at,
                outcome.finished_at,
                str(outcome.ending),
                error and error.type,
                error and error.message,
                error and error.traceback,
            ),
        )
