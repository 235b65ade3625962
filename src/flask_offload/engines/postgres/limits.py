"""Limits: how many jobs of a key may run at once, and how many may start in a window.

As in SQLite, a limited job waits in a state of its own, `blocked` or `throttled`, until its key has
capacity, so that claims need not look at limits.

Who frees capacity or takes it holds the limits lock until its transaction ends: there is one, of
the schema. Jobs without limits never need it. So that no two transactions wait for each other, the
rows of jobs are always locked before the limits lock; who holds that passes over rows that are
locked. Their holders wait for it, and let through what was passed over.

`seq = ANY(ARRAY(SELECT … LIMIT n FOR UPDATE SKIP LOCKED))` runs the inner query once. With
`seq IN (…)` a plan may run it again for each row of the table, and each time it skips the rows that
were changed already: more than n rows would change.
"""

from __future__ import annotations

from collections.abc import Iterable

from .connection import AGAIN, PgConnection

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('flask_offload limits ' || %s, 0))"

NOT_PAUSED = "queue_name NOT IN (SELECT name FROM offload.queues WHERE paused_at IS NOT NULL)"

KEEP_LIMIT = """
INSERT INTO offload.limits AS l (kind, key, count, "window") VALUES (%s, %s, %s, %s)
ON CONFLICT (kind, key) DO UPDATE SET count = excluded.count, "window" = excluded."window"
WHERE l.count <> excluded.count OR l."window" IS DISTINCT FROM excluded."window"
"""

# A limit may be forgotten while the transaction with its next job is open: then one at a time.
ADMIT_CONCURRENCY = f"""
UPDATE offload.jobs SET state = CASE WHEN rate_key IS NULL THEN 'ready' ELSE 'throttled' END
WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs
    WHERE state = 'blocked' AND concurrency_key = %(key)s AND {NOT_PAUSED}
    ORDER BY priority DESC, seq
    LIMIT greatest(0, coalesce((
        SELECT count FROM offload.limits WHERE kind = 'concurrency' AND key = %(key)s
    ), 1) - (
        SELECT count(*) FROM offload.jobs
        WHERE concurrency_key = %(key)s AND state IN ('throttled', 'ready', 'running')
    ))
    FOR UPDATE SKIP LOCKED
)) RETURNING rate_key
"""

ADMIT_RATE = f"""
UPDATE offload.jobs SET state = 'ready'
WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs WHERE state = 'throttled' AND rate_key = %s AND {NOT_PAUSED}
    ORDER BY priority DESC, seq LIMIT %s FOR UPDATE SKIP LOCKED
))
"""

# In one statement: a worker that has just claimed a job has noted its start as well.
RATE_USE = """
SELECT (SELECT count(*) FROM offload.starts WHERE rate_key = %(key)s),
    (SELECT min(at) FROM offload.starts WHERE rate_key = %(key)s),
    (SELECT max(at) FROM offload.starts WHERE rate_key = %(key)s),
    (SELECT count(*) FROM offload.jobs WHERE rate_key = %(key)s AND state = 'ready')
"""

RATE_WAITS = """
SELECT EXISTS (SELECT FROM offload.jobs WHERE state = 'throttled' AND rate_key = %(key)s),
    EXISTS (SELECT FROM offload.jobs WHERE rate_key = %(key)s)
"""

# The clock may have been set back since wake_at was written.
WAKING = 'wake_at <= %(now)s OR wake_at > %(now)s + "window"'

GIVE_PLACES_BACK = """
UPDATE offload.jobs SET state = 'blocked' WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs
    WHERE concurrency_key IS NOT NULL AND state IN ('throttled', 'ready') AND queue_name = %s
    FOR UPDATE SKIP LOCKED
)) RETURNING concurrency_key, rate_key
"""

GIVE_STARTS_BACK = """
UPDATE offload.jobs SET state = 'throttled' WHERE seq = ANY(ARRAY(
    SELECT seq FROM offload.jobs
    WHERE rate_key IS NOT NULL AND state = 'ready' AND queue_name = %s FOR UPDATE SKIP LOCKED
)) RETURNING concurrency_key, rate_key
"""

IDLE_KEYS = f"""
SELECT DISTINCT b.concurrency_key FROM offload.jobs AS b
LEFT JOIN offload.limits AS l ON l.kind = 'concurrency' AND l.key = b.concurrency_key
WHERE b.state = 'blocked' AND b.{NOT_PAUSED} AND coalesce(l.count, 1) > (
    SELECT count(*) FROM offload.jobs AS h
    WHERE h.concurrency_key = b.concurrency_key AND h.state IN ('throttled', 'ready', 'running')
)
"""


def lock_limits(connection: PgConnection) -> None:
    """Take the limits lock until the transaction ends."""
    connection.execute(LOCK, (connection.schema,))


def keep_limits(
    connection: PgConnection,
    concurrency: Iterable[tuple[str, int]],
    rates: Iterable[tuple[str, int, float]],
) -> None:
    """Remember how much each key may, as the newest job of that key says. Needs the lock."""
    for key, count in dict(concurrency).items():
        connection.execute(KEEP_LIMIT, ("concurrency", key, count, None))
    for key, (starts, window) in {key: (n, window) for key, n, window in rates}.items():
        connection.execute(KEEP_LIMIT, ("rate", key, starts, window))


def forget_limits(
    connection: PgConnection,
    now: float,
    concurrency_keys: Iterable[str | None],
    rate_keys: Iterable[str | None],
) -> None:
    """Drop what is kept about these keys as far as there is no job left that needs it."""
    keys = sorted({key for key in concurrency_keys if key is not None})
    rates = {key for key in rate_keys if key is not None}
    if not keys and not rates:
        return
    lock_limits(connection)
    connection.execute(
        "DELETE FROM offload.limits WHERE kind = 'concurrency' AND key = ANY(%s::text[])"
        " AND NOT EXISTS (SELECT FROM offload.jobs WHERE concurrency_key = key)",
        (keys,),
    )
    admit(connection, now, rate_keys=rates)


def admit(
    connection: PgConnection,
    now: float,
    concurrency_keys: Iterable[str | None] = (),
    rate_keys: Iterable[str | None] = (),
) -> None:
    """Let waiting jobs of these keys through, as far as there is capacity, and wake the workers for
    them. Takes the lock."""
    keys = sorted({key for key in concurrency_keys if key is not None})
    rates = {key for key in rate_keys if key is not None}
    if not keys and not rates:
        return
    lock_limits(connection)
    admitted = 0
    for key in keys:
        for (rate,) in connection.execute(ADMIT_CONCURRENCY, {"key": key}).fetchall():
            admitted += rate is None
            if rate is not None:
                rates.add(rate)
    for key in sorted(rates):
        admitted += _admit_rate(connection, now, key)
    if admitted:
        connection.notify(AGAIN)


def _admit_rate(connection: PgConnection, now: float, key: str) -> int:
    """A strict sliding window: starts in the last `window` seconds, plus the jobs that may start
    any moment, never exceed `count`. How many are let through."""
    limit = connection.execute(
        "SELECT count, \"window\" FROM offload.limits WHERE kind = 'rate' AND key = %s", (key,)
    ).fetchone()
    if limit is None:  # forgotten, as above: the job must not wait forever
        return connection.execute(ADMIT_RATE, (key, None)).rowcount
    count, window = limit
    connection.execute(
        "DELETE FROM offload.starts WHERE rate_key = %s AND at <= %s", (key, now - window)
    )
    # one in the future was noted before the clock was set back: it can't have been later than now
    connection.execute(
        "UPDATE offload.starts SET at = %(now)s WHERE rate_key = %(key)s AND at > %(now)s",
        {"key": key, "now": now},
    )
    used, oldest, newest, pending = connection.one(RATE_USE, {"key": key})
    admitted = connection.execute(ADMIT_RATE, (key, max(0, count - used - pending))).rowcount
    waits, is_known = connection.one(RATE_WAITS, {"key": key})
    if not is_known and not used:
        connection.execute("DELETE FROM offload.limits WHERE kind = 'rate' AND key = %s", (key,))
        return admitted
    look_at = oldest if waits else None if is_known else newest
    connection.execute(
        "UPDATE offload.limits SET wake_at = %(at)s WHERE kind = 'rate' AND key = %(key)s"
        " AND wake_at IS DISTINCT FROM %(at)s",
        {"at": None if look_at is None else look_at + window, "key": key},
    )
    return admitted


def wake_rates(connection: PgConnection, now: float) -> None:
    """Admit jobs of every rate key whose window has moved on."""
    due = connection.execute(f"SELECT key FROM offload.limits WHERE {WAKING}", {"now": now})
    admit(connection, now, rate_keys=[key for (key,) in due.fetchall()])


def admit_idle(connection: PgConnection, now: float) -> None:
    """Let jobs through that were passed over while someone held them who then changed nothing."""
    keys = [key for (key,) in connection.execute(IDLE_KEYS)]
    admit(connection, now, keys)


def note_starts(connection: PgConnection, now: float, rate_keys: Iterable[str]) -> None:
    """Count a start for each of these keys, and see when the next may follow."""
    keys = list(rate_keys)
    if keys:
        connection.execute(
            "INSERT INTO offload.starts (rate_key, at) SELECT unnest(%s::text[]), %s", (keys, now)
        )
        admit(connection, now, rate_keys=keys)


def take_back_start(connection: PgConnection, rate_key: str) -> None:
    """What was claimed and has not started does not count as a start."""
    connection.execute(
        "DELETE FROM offload.starts WHERE id ="
        " (SELECT max(id) FROM offload.starts WHERE rate_key = %s)",
        (rate_key,),
    )


def give_capacity_back(connection: PgConnection, now: float, queue_name: str) -> None:
    """The limited jobs of a queue that was paused step back, so that other queues may use the
    capacity that they had."""
    lock_limits(connection)
    keys = connection.execute(GIVE_PLACES_BACK, (queue_name,)).fetchall()
    keys += connection.execute(GIVE_STARTS_BACK, (queue_name,)).fetchall()
    admit(connection, now, [key[0] for key in keys], [key[1] for key in keys])


def admit_queue(connection: PgConnection, now: float, queue_name: str) -> None:
    """Let jobs of a queue through that is no longer paused."""
    lock_limits(connection)
    blocked = connection.execute(
        "SELECT DISTINCT concurrency_key FROM offload.jobs"
        " WHERE state = 'blocked' AND queue_name = %s",
        (queue_name,),
    ).fetchall()
    throttled = connection.execute(
        "SELECT DISTINCT rate_key FROM offload.jobs WHERE state = 'throttled' AND queue_name = %s",
        (queue_name,),
    ).fetchall()
    admit(connection, now, [key for (key,) in blocked], [key for (key,) in throttled])
