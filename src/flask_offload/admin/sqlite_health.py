"""How the job database stands, for `flask offload check`: facts, and no opinion on them.

Reads in one snapshot, so that the facts fit each other; nothing here writes.
"""

from __future__ import annotations

import msgspec

from ..engines.rows import WAITING
from ..engines.sqlite.connection import Connection
from ..engines.sqlite.sender import SqliteSender

_WAITING = ", ".join(f"'{state}'" for state in WAITING)
_PAUSED = "(SELECT name FROM queues WHERE paused_at IS NOT NULL)"

WAITING_TASKS = f"""
SELECT queue_name, task, count(*) FROM jobs WHERE state IN ({_WAITING}) GROUP BY queue_name, task
"""
RUNNING = "SELECT worker, count(*) FROM jobs WHERE state = 'running' GROUP BY worker"

# A job is ready since it was enqueued, came due, or was put back after its last attempt.
READY = f"""
SELECT queue_name, priority, count(*), min(since) FROM (
    SELECT queue_name, priority, max(enqueued_at, coalesce(run_after, 0), coalesce((
        SELECT max(finished_at) FROM attempts WHERE attempts.seq = jobs.seq), 0)) AS since
    FROM jobs WHERE state = 'ready' AND queue_name NOT IN {_PAUSED}
) GROUP BY queue_name, priority
"""

OVERTAKEN = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE priority > ?1 AND enqueued_at > ?2 AND started_at > ?2)
"""

# No job holds the key, so a waiting one should have been admitted.
STUCK_KEYS = f"""
SELECT 'concurrency', concurrency_key, count(*) FROM jobs AS waiting
WHERE state = 'blocked' AND queue_name NOT IN {_PAUSED} AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE concurrency_key = waiting.concurrency_key
        AND state IN ('throttled', 'ready', 'running'))
GROUP BY concurrency_key
UNION ALL
SELECT 'rate', rate_key, count(*) FROM jobs AS waiting
WHERE state = 'throttled' AND queue_name NOT IN {_PAUSED}
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE rate_key = waiting.rate_key AND state = 'ready')
    AND NOT EXISTS (
        SELECT 1 FROM limits WHERE kind = 'rate' AND key = waiting.rate_key AND wake_at > ?)
GROUP BY rate_key
"""

NEWEST = """
SELECT max(at) FROM (
    SELECT enqueued_at AS at FROM (SELECT enqueued_at FROM jobs ORDER BY seq DESC LIMIT 1)
    UNION ALL SELECT max(started_at) FROM workers
    UNION ALL SELECT max(last_at) FROM schedules
)
"""


class ReadyJobs(msgspec.Struct, frozen=True):
    """Jobs of one queue and priority that could start now; the oldest has waited since `since`.

    overtaken: it has waited long, and younger jobs of a higher priority have started meanwhile.
    """

    queue_name: str
    priority: int
    count: int
    since: float
    overtaken: bool


class Health(msgspec.Struct, kw_only=True, frozen=True):
    """Facts about a job database; moments in unix seconds.

    waiting: how many jobs of each (queue, task) have not started, for whatever reason.
    running: how many each worker id holds. overdue: when the oldest scheduled job was due that
    still waits, if any. stuck_keys: (kind, key, jobs) of limits that admit no job.
    newest: the latest moment that was written down.
    """

    version: int = 0
    waiting: dict[tuple[str, str], int] = {}
    running: dict[str, int] = {}
    ready: list[ReadyJobs] = []
    overdue: float | None = None
    stuck_keys: list[tuple[str, str, int]] = []
    newest: float | None = None


def read_health(engine: SqliteSender, *, long: float, grace: float) -> Health:
    """Look at the database. Raises EngineUnavailable.

    long: seconds of waiting from which it is asked whether a job was overtaken. grace: seconds that
    a worker gets to notice that something came due.
    """
    now = engine.clock()

    def work(connection: Connection) -> Health:
        ready = connection.execute(READY).fetchall()
        return Health(
            version=connection.execute("PRAGMA user_version").get,
            waiting={(queue, task): n for queue, task, n in connection.execute(WAITING_TASKS)},
            running=dict(connection.execute(RUNNING).fetchall()),
            ready=[
                ReadyJobs(
                    queue_name=queue,
                    priority=priority,
                    count=count,
                    since=since,
                    overtaken=since < now - long
                    and bool(connection.execute(OVERTAKEN, (priority, since)).get),
                )
                for queue, priority, count, since in ready
            ],
            overdue=connection.execute(
                "SELECT min(run_after) FROM jobs WHERE state = 'scheduled' AND run_after < ?",
                (now - grace,),
            ).get,
            stuck_keys=connection.execute(STUCK_KEYS, (now - grace,)).fetchall(),
            newest=connection.execute(NEWEST).get,
        )

    return engine.database.read(work)
