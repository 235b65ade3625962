"""Steps of `current_job.once`, in PostgreSQL."""

from __future__ import annotations

from ...jobs.attempt import Claim
from .database import ConnectionStack

HOLDS = "seq = %s AND attempt = %s AND state = 'running'"
"""An attempt that has started is not given back, so its number is its fence."""
SAVE_STEP = f"""
WITH held AS (SELECT seq FROM offload.jobs WHERE {HOLDS} FOR SHARE)
INSERT INTO offload.steps (seq, name, value) SELECT seq, name, value
FROM (SELECT %s::text AS name, %s::text AS value) AS new, held
ON CONFLICT (seq, name) DO UPDATE SET value = excluded.value
"""
STEP = f"""
SELECT (SELECT value FROM offload.steps WHERE steps.seq = jobs.seq AND name = %s)
FROM offload.jobs WHERE {HOLDS}
"""


def step(
    database: ConnectionStack, claim: Claim, name: str, value: str | None
) -> tuple[bool, str | None]:
    """See Engine.step."""
    fence = (claim.seq, claim.attempt)
    if value is not None:
        values = (*fence, name, value)
        database.write(lambda connection: connection.execute(SAVE_STEP, values).rowcount)
    row = database.read(lambda connection: connection.execute(STEP, (name, *fence)).fetchone())
    return row is not None, None if row is None else row[0]
