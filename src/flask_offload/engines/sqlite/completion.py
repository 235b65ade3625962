"""What became of attempts, in SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...jobs.attempt import Outcome
from ...jobs.job import JobStatus
from ..attempt_writes import FENCE, AttemptStatements, AttemptWrites
from ..dialect import SQLITE
from .connection import Connection
from .limits import take_back_start

SUCCEED = f"""
UPDATE jobs SET state = 'successful', started_at = ?, finished_at = ?, expires_at = ?
WHERE {FENCE} RETURNING seq, attempt, concurrency_key, rate_key, task, enqueued_at, run_after
"""

KEEP_RESULT = "INSERT OR REPLACE INTO results (seq, value, expires_at) VALUES (?, ?, ?)"

FORGET_FILES = """
DELETE FROM files WHERE seq IN (SELECT value FROM json_each(?)) RETURNING name
"""


@dataclass
class Completion(AttemptWrites[Connection]):
    """One worker's writes about its attempts, in one transaction."""

    sql = AttemptStatements.of(SQLITE)
    dialect = SQLITE

    stray_files: list[str] = field(default_factory=list)
    """Spooled files that no job needs any more."""

    def take_back_start(self, rate_key: str) -> None:
        """See AttemptWrites.take_back_start."""
        take_back_start(self.connection, rate_key)

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
