"""Jobs from an app's outbox: each id becomes a job once, however often it is relayed.

An id is noted in `relayed` together with its job, and stays there until some time after its row has
left the outbox. A process that has read a row, and then was stopped for long, finds that its
deadline is over: it never inserts a job whose note may be gone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..engines.sql_sender import C, SqlSender
from ..errors import EngineUnavailable
from ..jobs.job import JobRecord
from ..jobs.new_job import NewJob

KEEP_NOTE: Final = 366 * 86_400.0
"""Seconds for which an id is noted whose row may still be in an outbox."""
KEEP_DONE: Final = 600.0
"""Seconds for which it is noted once the row is gone. Much longer than RELAY_WITHIN."""
RELAY_WITHIN: Final = 60.0
"""Seconds after reading an outbox within which its rows may be relayed."""

NOTE = """
INSERT INTO offload.relayed (id, expires_at) SELECT ?, ?
WHERE NOT EXISTS (SELECT 1 FROM offload.jobs WHERE given_id = ?) ON CONFLICT DO NOTHING RETURNING id
"""
WAS_RELAYED = "SELECT 1 FROM offload.relayed WHERE id = ?"
DONE = "UPDATE offload.relayed SET expires_at = ? WHERE id = ?"
FORGET = "DELETE FROM offload.relayed WHERE expires_at <= ?"
CANCEL_DUPLICATE = """
UPDATE offload.jobs SET state = 'cancelled', finished_at = ?, expires_at = ? WHERE given_id = ?
RETURNING seq
"""
WHY_CANCELLED = """
INSERT INTO offload.attempts (seq, number, finished_at, outcome, error_type, error_message)
VALUES (?, 0, ?, 'CANCELLED', 'Duplicate', ?)
"""


NO_KEYS: dict[str, Any] = {
    "unique_key": None,
    "concurrency_key": None,
    "rate_key": None,
    "files": (),
}


class RelayedJobs(SqlSender[C]):
    """The part of a SQL engine that accepts jobs of an outbox."""

    def relay(self, jobs: Sequence[NewJob], deadline: float) -> list[JobRecord]:
        """See InTransaction.relay."""
        now, note = self.clock(), self.dialect.sql(NOTE)

        def work(connection: C) -> list[JobRecord]:
            new = [
                msgspec.structs.replace(job, has_given_id=True)
                for job in jobs
                if list(connection.execute(note, (job.id, now + KEEP_NOTE, job.id)))
            ]
            if time.monotonic() > deadline:
                raise EngineUnavailable("relaying took too long: the outbox has to be read again")
            records = self.insert(connection, new, now)
            for job, record in zip(new, records, strict=True):
                if record.is_duplicate:  # its id is known, so it must lead to a job
                    self._insert_cancelled(connection, job, record, now)
            return records

        return self.write_and_notify(work, inserts=True)

    def _insert_cancelled(self, connection: C, job: NewJob, holder: JobRecord, now: float) -> None:
        """Insert a job whose unique key another one holds, as CANCELLED."""
        self.insert(connection, [msgspec.structs.replace(job, **NO_KEYS)], now)
        times = (now, now + self._keep_cancelled(job.task))
        (seq,) = self._one(connection, CANCEL_DUPLICATE, *times, job.id)
        why = f"the job {holder.id} of the same unique call had not finished"
        connection.execute(self.dialect.sql(WHY_CANCELLED), (seq, now, why))

    def was_relayed(self, job_id: str) -> bool:
        """See InTransaction.was_relayed."""
        found = self.database.read(lambda c: self._one(c, WAS_RELAYED, job_id))
        return found is not None

    def forget_relayed(self, ids: Sequence[str]) -> None:
        """See InTransaction.forget_relayed."""
        now, done = self.clock(), self.dialect.sql(DONE)

        def work(connection: C) -> None:
            for job_id in ids:
                connection.execute(done, (now + KEEP_DONE, job_id))
            connection.execute(self.dialect.sql(FORGET), (now,))

        self.database.write(work, promise=False)
