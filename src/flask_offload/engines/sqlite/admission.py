"""Limits: how many jobs of a key may run at once, and how many may start in a window.

A limited job holds back in its own line, `blocked` or `throttled`, until its key has room; then it
joins the ready ones with its old place in the order. So claiming never has to look at limits, and
a key without room costs the others nothing. Room is given again in the very transaction that
makes it: whenever a job leaves `ready` or `running`.
"""

from __future__ import annotations

from collections.abc import Iterable

from .connection import Connection

NOT_PAUSED = "queue_name NOT IN (SELECT name FROM queues WHERE paused_at IS NOT NULL)"

KEEP_LIMIT = """
INSERT INTO limits (kind, key, count, window) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = excluded.count, window = excluded.window
WHERE count <> excluded.count OR window IS NOT excluded.window
"""

ADMIT_CONCURRENCY = f"""
UPDATE jobs SET state = CASE WHEN rate_key IS NULL THEN 'ready' ELSE 'throttled' END
WHERE seq IN (
    SELECT seq FROM jobs WHERE state = 'blocked' AND concurrency_key = ?1 AND {NOT_PAUSED}
    ORDER BY priority DESC, seq LIMIT max(0, (
        SELECT count FROM limits WHERE kind = 'concurrency' AND key = ?1
    ) - (
        SELECT count(*) FROM jobs
        WHERE concurrency_key = ?1 AND state IN ('throttled', 'ready', 'running')
    ))
) RETURNING rate_key
"""

ADMIT_RATE = f"""
UPDATE jobs SET state = 'ready'
WHERE seq IN (
    SELECT seq FROM jobs WHERE state = 'throttled' AND rate_key = ?1 AND {NOT_PAUSED}
    ORDER BY priority DESC, seq LIMIT max(0, ?2)
)
"""


def keep_limits(
    connection: Connection,
    concurrency: Iterable[tuple[str, int]],
    rates: Iterable[tuple[str, int, float]],
) -> None:
    """Remember how much each key may, as the newest job of that key says."""
    for key, count in concurrency:
        connection.execute(KEEP_LIMIT, ("concurrency", key, count, None))
    for key, count, window in rates:
        connection.execute(KEEP_LIMIT, ("rate", key, count, window))


def admit(
    connection: Connection,
    now: float,
    concurrency_keys: Iterable[str | None] = (),
    rate_keys: Iterable[str | None] = (),
) -> None:
    """Let waiting jobs of these keys through, as far as there is room."""
    rates = {key for key in rate_keys if key is not None}
    for key in {key for key in concurrency_keys if key is not None}:
        for (rate,) in connection.execute(ADMIT_CONCURRENCY, (key,)).fetchall():
            if rate is not None:
                rates.add(rate)
    for key in rates:
        _admit_rate(connection, now, key)


def _admit_rate(connection: Connection, now: float, key: str) -> None:
    """A strict sliding window: starts in the last `window` seconds, plus the jobs that may start
    any moment, never exceed `count`."""
    limit = connection.execute(
        "SELECT count, window FROM limits WHERE kind = 'rate' AND key = ?", (key,)
    ).fetchone()
    if limit is None:
        return
    count, window = limit
    # a start in the future was noted before the clock was set back
    connection.execute(
        "DELETE FROM starts WHERE rate_key = ? AND (at <= ? OR at > ?)", (key, now - window, now)
    )
    used, oldest = connection.execute(
        "SELECT count(*), min(at) FROM starts WHERE rate_key = ?", (key,)
    ).fetchone()
    pending = connection.execute(
        "SELECT count(*) FROM jobs WHERE rate_key = ? AND state = 'ready'", (key,)
    ).get
    connection.execute(ADMIT_RATE, (key, count - used - pending))
    waits = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'throttled' AND rate_key = ?)", (key,)
    ).get
    wake_at = oldest + window if waits and oldest is not None else None
    connection.execute(
        "UPDATE limits SET wake_at = ?1 WHERE kind = 'rate' AND key = ?2 AND wake_at IS NOT ?1",
        (wake_at, key),
    )


def wake_rates(connection: Connection, now: float) -> None:
    """Admit jobs of every rate key whose window has moved on."""
    due = connection.execute(
        "SELECT key FROM limits WHERE kind = 'rate' AND wake_at <= ?", (now,)
    ).fetchall()
    admit(connection, now, rate_keys=[key for (key,) in due])


def note_starts(connection: Connection, now: float, rate_keys: Iterable[str]) -> None:
    """Count a start for each of these keys."""
    connection.executemany(
        "INSERT INTO starts (rate_key, at) VALUES (?, ?)", [(key, now) for key in rate_keys]
    )
