"""What became of attempts, written down inside a transaction of the caller.

Every write about an attempt is fenced: it counts only while that very attempt is still held by this
worker. What comes too late (from a worker that was stopped or given up) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...jobs.attempt import Claim, Ending, Outcome, Report
from ...jobs.job import Error, JobStatus
from ...jobs.new_job import QUARANTINED
from ...jobs.transition import follow
from ..rows import Freed
from ..store import Retention
from .connection import Connection
from .limits import DUE_STATE, take_back_start

FENCE = "seq = ? AND attempt = ? AND worker = ? AND state = 'running'"

SUCCEED = f"""
UPDATE jobs SET state = 'successful', started_at = ?, finished_at = ?, expires_at = ?
WHERE {FENCE} RETURNING concurrency_key, rate_key
"""

HELD = f"""
SELECT concurrency_key, rate_key, failures, crashes, on_crash, cancel, lane, task FROM jobs
WHERE {FENCE}
"""

# These three follow HELD in the same transaction, which has looked at the fence.
END = """
UPDATE jobs SET state = ?, failures = ?, crashes = ?, started_at = ?, finished_at = ?,
    expires_at = ?
WHERE seq = ?
"""

READY_AGAIN = f"""
UPDATE jobs SET worker = NULL, failures = ?, crashes = ?, started_at = ?, lane = ?, run_after = ?,
    state = CASE WHEN ? THEN 'scheduled' ELSE {DUE_STATE} END
WHERE seq = ?
"""

UNCLAIM_CANCELLED = """
UPDATE jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL, state = 'cancelled',
    finished_at = ?, expires_at = ?
WHERE seq = ? RETURNING concurrency_key, rate_key
"""

UNCLAIM = f"""
UPDATE jobs SET attempt = attempt - 1, worker = NULL, started_at = NULL,
    run_after = coalesce(?, run_after),
    state = CASE WHEN ? THEN 'scheduled' ELSE {DUE_STATE} END
WHERE {FENCE} AND cancel = 0 RETURNING concurrency_key, rate_key
"""

REPORT = f"""
UPDATE jobs SET done = ?, total = ?, message = ?, cursor = coalesce(?, cursor) WHERE {FENCE}
"""

ATTEMPT = """
INSERT OR REPLACE INTO attempts (seq, number, worker, started_at, finished_at, outcome, error_type,
    error_message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass
class Completion:
    """One worker's writes about its attempts, in one transaction. now: unix seconds."""

    connection: Connection
    worker_id: str
    retention: Retention
    now: float
    freed: Freed = field(default_factory=Freed)
    stray_files: list[str] = field(default_factory=list)
    """Spooled files that no job needs any more."""

    def finish(self, outcome: Outcome) -> bool:
        """Record one outcome; False if it came too late."""
        if outcome.ending is Ending.SUCCESSFUL:
            return self._succeed(outcome)
        return self._finish_badly(outcome)

    def unclaim(self, held: Claim | Outcome, *, delay: float = 0.0) -> None:
        """A job that was claimed and has not started is READY again, as if nothing had been;
        CANCELLED if it has been asked to stop. delay: seconds before it may be claimed again."""
        fence = self._fence(held)
        run_after = self.now + delay if delay else None
        keys = self.connection.execute(UNCLAIM, (run_after, bool(delay), *fence)).fetchall()
        if not keys:  # if the fence holds, it has been asked to stop
            keys = self._cancel_unstarted(fence)
        for concurrency_key, rate_key in keys:
            if rate_key is not None:
                take_back_start(self.connection, rate_key)
            self.freed.add(concurrency_key, rate_key)

    def _cancel_unstarted(self, fence: tuple[int, int, str]) -> list[tuple[Any, ...]]:
        row = self.connection.execute(HELD, fence).fetchone()
        if row is None:
            return []
        *_, task = row
        expires_at = self.now + self.retention.unsuccessful(task, JobStatus.CANCELLED)
        seq, _, _ = fence
        return self.connection.execute(UNCLAIM_CANCELLED, (self.now, expires_at, seq)).fetchall()

    def report(self, report: Report) -> None:
        """Record progress and a cursor."""
        self.connection.execute(
            REPORT,
            (report.done, report.total, report.message, report.cursor, *self._fence(report)),
        )

    def _fence(self, held: Outcome | Claim | Report) -> tuple[int, int, str]:
        return held.seq, held.attempt, self.worker_id

    def _succeed(self, outcome: Outcome) -> bool:
        keep = self.retention.successful if outcome.keep is None else outcome.keep
        keys = self.connection.execute(
            SUCCEED,
            (outcome.started_at, outcome.finished_at, self.now + keep, *self._fence(outcome)),
        ).fetchall()
        if not keys:
            return False
        self.freed.add(*keys[0])
        if outcome.result is not None:
            ttl = outcome.result_ttl
            self.connection.execute(
                "INSERT OR REPLACE INTO results (seq, value, expires_at) VALUES (?, ?, ?)",
                (outcome.seq, outcome.result, None if ttl is None else self.now + ttl),
            )
        self.stray_files += [
            name
            for (name,) in self.connection.execute(
                "DELETE FROM files WHERE seq = ? RETURNING name", (outcome.seq,)
            ).fetchall()
        ]
        return True

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
                outcome.ending,
                error and error.type,
                error and error.message,
                error and error.traceback,
            ),
        )
