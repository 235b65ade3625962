"""What became of attempts, in SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...jobs.attempt import Claim, Outcome
from ...jobs.job import JobStatus
from ..attempt_writes import HELD_COLUMNS, AttemptStatements, AttemptWrites, HeldRow
from ..dialect import SQLITE
from ..rows import DUE_STATE
from .connection import Connection
from .limits import take_back_start

FENCE = "seq = ? AND attempt = ? AND worker = ? AND state = 'running'"

SUCCEED = f"""
UPDATE jobs SET state = 'successful', started_at = ?, finished_at = ?, expires_at = ?
WHERE {FENCE} RETURNING seq, attempt, concurrency_key, rate_key, task, enqueued_at, run_after
"""

KEEP_RESULT = "INSERT OR REPLACE INTO results (seq, value, expires_at) VALUES (?, ?, ?)"

FORGET_FILES = """
DELETE FROM files WHERE seq IN (SELECT value FROM json_each(?)) RETURNING name
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

STATEMENTS = AttemptStatements(
    held=f"""
SELECT {HELD_COLUMNS} FROM jobs WHERE {FENCE}
""",
    end="""
UPDATE jobs SET state = ?, failures = ?, crashes = ?, started_at = ?, finished_at = ?,
    expires_at = ?
WHERE seq = ?
""",
    ready_again=f"""
UPDATE jobs SET worker = NULL, failures = ?, crashes = ?, started_at = ?, lane = ?, run_after = ?,
    state = CASE WHEN ? THEN 'scheduled' ELSE {DUE_STATE} END
WHERE seq = ?
""",
    report=f"""
UPDATE jobs SET done = ?, total = ?, message = ?, cursor = coalesce(?, cursor) WHERE {FENCE}
""",
    attempt="""
INSERT OR REPLACE INTO attempts (seq, number, worker, started_at, finished_at, outcome, error_type,
    error_message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
""",
    log=f"""
INSERT OR REPLACE INTO logs (seq, attempt, lines) SELECT seq, attempt, ? FROM jobs WHERE {FENCE}
""",
    forget_log="DELETE FROM logs WHERE seq = ? AND attempt <= ?",
)


@dataclass
class Completion(AttemptWrites[Connection]):
    """One worker's writes about its attempts, in one transaction."""

    sql = STATEMENTS
    dialect = SQLITE

    stray_files: list[str] = field(default_factory=list)
    """Spooled files that no job needs any more."""

    def unclaim(self, held: Claim | Outcome, *, delay: float = 0.0) -> None:
        """See AttemptWrites.unclaim."""
        fence = self.fence(held)
        run_after = self.now + delay if delay else None
        keys = self.connection.execute(UNCLAIM, (run_after, bool(delay), *fence)).fetchall()
        if not keys:  # if the fence holds, it has been asked to stop
            keys = self._cancel_unstarted(fence)
        for concurrency_key, rate_key in keys:
            if rate_key is not None:
                take_back_start(self.connection, rate_key)
            self.freed.add(concurrency_key, rate_key)

    def _cancel_unstarted(self, fence: tuple[int, int, str]) -> list[tuple[Any, ...]]:
        row = self.connection.execute(self.sql.held, fence).fetchone()
        if row is None:
            return []
        job = HeldRow(*row)
        keep = self.retention.unsuccessful(job.task, JobStatus.CANCELLED, job.options)
        expires_at = self.now + keep
        seq, _, _ = fence
        return self.connection.execute(UNCLAIM_CANCELLED, (self.now, expires_at, seq)).fetchall()

    def succeed(self, outcomes: Sequence[Outcome]) -> set[tuple[int, int]]:
        """See AttemptWrites.succeed."""
        parameters = map(self._success, outcomes)
        rows = self.connection.executemany(SUCCEED, parameters).fetchall()
        held = {(seq, attempt): values for seq, attempt, *values in rows}
        results = []
        for outcome in outcomes:
            values = held.get((outcome.seq, outcome.attempt))
            if values is None:
                continue
            concurrency_key, rate_key, task, enqueued_at, run_after = values
            self.freed.add(concurrency_key, rate_key)
            self.count(outcome, task, JobStatus.SUCCESSFUL, enqueued_at, run_after)
            if outcome.result is not None:
                ttl = outcome.result_ttl
                expires_at = None if ttl is None else self.now + ttl
                results.append((outcome.seq, outcome.result, expires_at))
        self.connection.executemany(KEEP_RESULT, results)
        seqs = json.dumps([seq for seq, _ in held])
        names = self.connection.execute(FORGET_FILES, (seqs,)).fetchall()
        self.stray_files += [name for (name,) in names]
        return set(held)

    def _success(self, outcome: Outcome) -> tuple[float | int | str, ...]:
        """The parameters of SUCCEED."""
        keep = self.retention.successful if outcome.keep is None else outcome.keep
        times = (outcome.started_at, outcome.finished_at, self.now + keep)
        return (*times, outcome.seq, outcome.attempt, self.worker_id)
