"""Limits: how many jobs of a key may run at once, and how many may start in a window.

A limited job waits, `blocked` or `throttled`, until its key has capacity; then it
joins the ready ones with its old place in the order. So claiming never has to look at limits, and
a key without capacity costs the others nothing. Capacity is given again in the transaction that
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

# The clock may have been set back since wake_at was written.
WAKING = "wake_at <= ?1 OR wake_at > ?1 + window"

GIVE_PLACES_BACK = """
UPDATE jobs SET state = 'blocked' WHERE seq IN (
    SELECT seq FROM limits CROSS JOIN jobs ON concurrency_key = key
    WHERE kind = 'concurrency' AND state IN ('throttled', 'ready') AND queue_name = ?
) RETURNING concurrency_key, rate_key
"""

GIVE_STARTS_BACK = """
UPDATE jobs SET state = 'throttled' WHERE seq IN (
    SELECT seq FROM limits CROSS JOIN jobs ON rate_key = key
    WHERE kind = 'rate' AND state = 'ready' AND queue_name = ?
) RETURNING concurrency_key, rate_key
"""


def keep_limits(
    connection: Connection,
    concurrency: Iterable[tuple[str, int]],
    rates: Iterable[tuple[str, int, float]],
) -> None:
    """Remember how much each key may, as declared by the newest job of that key."""
    for key, count in concurrency:
        connection.execute(KEEP_LIMIT, ("concurrency", key, count, None))
    for key, count, window in rates:
        connection.execute(KEEP_LIMIT, ("rate", key, count, window))


def forget_limits(
    connection: Connection,
    now: float,
    concurrency_keys: Iterable[str | None],
    rate_keys: Iterable[str | None],
) -> None:
    """Drop what is kept about these keys as far as there is no job left that needs it."""
    connection.executemany(
        "DELETE FROM limits WHERE kind = 'concurrency' AND key = ?1"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE concurrency_key = ?1)",
        [(key,) for key in set(concurrency_keys) if key is not None],
    )
    admit(connection, now, rate_keys=rate_keys)


def admit(
    connection: Connection,
    now: float,
    concurrency_keys: Iterable[str | None] = (),
    rate_keys: Iterable[str | None] = (),
) -> None:
    """Let waiting jobs of these keys through, as far as there is capacity."""
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
    connection.execute("DELETE FROM starts WHERE rate_key = ? AND at <= ?", (key, now - window))
    # one in the future was noted before the clock was set back: it can't have been later than now
    connection.execute("UPDATE starts SET at = ?2 WHERE rate_key = ?1 AND at > ?2", (key, now))
    used, oldest, newest = connection.execute(
        "SELECT count(*), min(at), max(at) FROM starts WHERE rate_key = ?", (key,)
    ).fetchone()
    pending = connection.execute(
        "SELECT count(*) FROM jobs WHERE rate_key = ? AND state = 'ready'", (key,)
    ).get
    connection.execute(ADMIT_RATE, (key, count - used - pending))
    waits, is_known = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'throttled' AND rate_key = ?1),"
        " EXISTS (SELECT 1 FROM jobs WHERE rate_key = ?1)",
        (key,),
    ).fetchone()
    if not is_known and not used:
        connection.execute("DELETE FROM limits WHERE kind = 'rate' AND key = ?", (key,))
        return
    look_at = oldest if waits else None if is_known else newest
    connection.execute(
        "UPDATE limits SET wake_at = ?1 WHERE kind = 'rate' AND key = ?2 AND wake_at IS NOT ?1",
        (None if look_at is None else look_at + window, key),
    )


def wake_rates(connection: Connection, now: float) -> None:
    """Admit jobs of every rate key whose window has moved on."""
    due = connection.execute(f"SELECT key FROM limits WHERE {WAKING}", (now,)).fetchall()
    admit(connection, now, rate_keys=[key for (key,) in due])


def note_starts(connection: Connection, now: float, rate_keys: Iterable[str]) -> None:
    """Count a start for each of these keys, and see when the next may follow."""
    keys = list(rate_keys)
    connection.executemany(
        "INSERT INTO starts (rate_key, at) VALUES (?, ?)", [(key, now) for key in keys]
    )
    admit(connection, now, rate_keys=keys)


def take_back_start(connection: Connection, rate_key: str) -> None:
    """What was claimed and has not started does not count as a start."""
    connection.execute(
        "DELETE FROM starts WHERE rowid = (SELECT max(rowid) FROM starts WHERE rate_key = ?)",
        (rate_key,),
    )


def give_capacity_back(connection: Connection, now: float, queue_name: str) -> None:
    """The limited jobs of a queue that was paused step back, so that other queues may use the
    capacity that they had."""
    keys = connection.execute(GIVE_PLACES_BACK, (queue_name,)).fetchall()
    keys += connection.execute(GIVE_STARTS_BACK, (queue_name,)).fetchall()
    admit(connection, now, [key[0] for key in keys], [key[1] for key in keys])


def admit_queue(connection: Connection, now: float, queue_name: str) -> None:
    """Let jobs of a queue through that is no longer paused."""
    blocked = connection.execute(
        "SELECT DISTINCT concurrency_key FROM jobs WHERE state = 'blocked' AND queue_name = ?",
        (queue_name,),
    ).fetchall()
    throttled = connection.execute(
        "SELECT DISTINCT rate_key FROM jobs WHERE state = 'throttled' AND queue_name = ?",
        (queue_name,),
    ).fetchall()
    admit(connection, now, [key for (key,) in blocked], [key for (key,) in throttled])
