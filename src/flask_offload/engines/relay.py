"""Jobs from an app's outbox: each id becomes a job once, however often it is relayed.

An id is noted in `relayed` together with its job, and stays there until some time after its row has
left the outbox. A process that has read a row, and then was stopped for long, finds that its
deadline is over: it never inserts a job whose note may be gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ..errors import EngineUnavailable
from ..jobs.job import JobRecord
from ..jobs.new_job import NewJob
from .attempt_writes import SqlConnection
from .dialect import Dialect

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


def relay(
    connection: SqlConnection,
    dialect: Dialect,
    jobs: Sequence[NewJob],
    *,
    now: float,
    deadline: float,
    insert: Callable[[Sequence[NewJob]], list[JobRecord]],
    keep_cancelled: Callable[[str], float],
) -> list[JobRecord]:
    """The work of Engine.relay inside a transaction. insert: inserts jobs with given ids."""
    note = dialect.sql(NOTE)
    new = [
        msgspec.structs.replace(job, has_given_id=True)
        for job in jobs
        if list(connection.execute(note, (job.id, now + KEEP_NOTE, job.id)))
    ]
    if time.monotonic() > deadline:
        raise EngineUnavailable("relaying took too long: the outbox has to be read again")
    records = insert(new)
    for job, record in zip(new, records, strict=True):
        if record.is_duplicate:  # its id is known, so it must lead to a job
            insert([msgspec.structs.replace(job, **NO_KEYS)])
            times = (now, now + keep_cancelled(job.task))
            rows = list(connection.execute(dialect.sql(CANCEL_DUPLICATE), (*times, job.id)))
            why = f"the job {record.id} of the same unique call had not finished"
            connection.execute(dialect.sql(WHY_CANCELLED), (rows[0][0], now, why))
    return records


NO_KEYS = {"unique_key": None, "concurrency_key": None, "rate_key": None, "files": ()}


def forget(connection: SqlConnection, dialect: Dialect, ids: Sequence[str], *, now: float) -> None:
    """The work of Engine.forget_relayed inside a transaction."""
    for job_id in ids:
        connection.execute(dialect.sql(DONE), (now + KEEP_DONE, job_id))
    connection.execute(dialect.sql(FORGET), (now,))
