"""What can be asked about many jobs, and which index answers."""

from __future__ import annotations

from typing import Any

import msgspec

from ...jobs.job import JobRecord, JobStatus
from ..base import JobPage, JobQuery, QueueInfo, ScheduleInfo
from ..dialect import POSTGRES
from ..job_search import Search
from ..rows import (
    COLUMNS,
    IS_FINISHED,
    NOT_FINISHED,
    SCHEDULE_COLUMNS,
    count_statuses,
    filters,
    queue_infos,
    schedule_infos,
    seq_range,
    states_sql,
)
from .connection import PgConnection
from .rows import find, with_attempts

COUNTS = " UNION ALL ".join(
    [
        *(
            f"SELECT '{state}', count(*) FROM offload.jobs WHERE state = '{state}'"
            for state in NOT_FINISHED
        ),
        f"SELECT state, count(*) FROM offload.jobs WHERE {IS_FINISHED} GROUP BY state",
    ]
)

QUEUES = """
SELECT name, paused_at, coalesce(ready, 0), coalesce(running, 0) FROM offload.queues
LEFT JOIN (
    SELECT queue_name, count(*) FILTER (WHERE state <> 'running') AS ready,
        count(*) FILTER (WHERE state = 'running') AS running
    FROM offload.jobs WHERE state IN ('scheduled', 'blocked', 'throttled', 'ready', 'running')
    GROUP BY queue_name
) AS numbers ON queue_name = name
ORDER BY name
"""

SCHEDULES = f"SELECT {SCHEDULE_COLUMNS} FROM offload.schedules ORDER BY name"

IDS = """
SELECT given_id FROM offload.jobs
WHERE given_id COLLATE "C" BETWEEN %s AND %s || 'g'
UNION ALL
SELECT id FROM offload.jobs
WHERE seq BETWEEN %s AND %s AND starts_with(id, %s) AND given_id IS NULL LIMIT 2
"""


def list_jobs(connection: PgConnection, query: JobQuery) -> list[JobRecord]:
    """Jobs with their attempts, without their results, newest first.

    A finished status is an index, and so is RUNNING. READY, and the other conditions, look at the
    jobs from the newest on until the page is full.
    """
    conditions = ["true"]
    bindings: list[Any] = []
    if query.status is not None:
        conditions.append(f"state IN ({states_sql(query.status)})")
        if query.status.is_finished:
            conditions.append(IS_FINISHED)
    for column, value in filters(query):
        conditions.append(f"{column} = %s")
        bindings.append(value.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM offload.jobs WHERE {' AND '.join(conditions)}"
        " ORDER BY seq DESC LIMIT %s OFFSET %s",
        (*bindings, max(1, min(query.limit, 1000)), max(0, query.offset)),
    ).fetchall()
    return with_attempts(connection, rows)


def page(connection: PgConnection, query: JobQuery, look: int) -> JobPage:
    """See Engine.page."""
    rows, found = Search(connection, POSTGRES).page(query, look)
    return msgspec.structs.replace(found, jobs=with_attempts(connection, rows))


def count(connection: PgConnection) -> dict[JobStatus, int]:
    """How many jobs have each status."""
    return count_statuses(connection.execute(COUNTS))


def queues(connection: PgConnection) -> list[QueueInfo]:
    """Every queue that has ever had a job."""
    return queue_infos(connection.execute(QUEUES))


def schedules(connection: PgConnection) -> list[ScheduleInfo]:
    """Every schedule that a worker has ever seen."""
    return schedule_infos(connection.execute(SCHEDULES))


def arguments(connection: PgConnection, job_id: str) -> str:
    """The encoded arguments of a job (JSON). Raises JobNotFound."""
    seq = find(connection, job_id)[0]
    args: str = connection.value("SELECT args FROM offload.jobs WHERE seq = %s", (seq,))
    return args


def ids(connection: PgConnection, beginning: str) -> list[str]:
    """Up to two ids that begin so: their numbers are a range."""
    found = seq_range(beginning)
    if found is None:
        return []
    if not beginning.isascii() or "\0" in beginning or found[0] < 0:
        return []
    return [row[0] for row in connection.execute(IDS, (beginning, beginning, *found, beginning))]
