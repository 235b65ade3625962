"""What can be asked about many jobs, and which index answers: a million waiting ones must not make
it slow. The docstrings of those that look at the jobs themselves mention it."""

from __future__ import annotations

from typing import Any

import msgspec

from ...jobs.job import JobRecord, JobStatus
from ..base import JobPage, JobQuery, QueueInfo, ScheduleInfo
from ..dialect import SQLITE
from ..job_search import Search
from ..rows import (
    COLUMNS,
    ID,
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
from .connection import Connection
from .rows import find, with_attempts

COUNTS = f"""
{" UNION ALL ".join(f"SELECT '{s}', count(*) FROM jobs WHERE state = '{s}'" for s in NOT_FINISHED)}
UNION ALL SELECT state, count(*) FROM jobs WHERE {IS_FINISHED} GROUP BY state
"""

# The ready ones in the order of their index, so that nothing needs to be sorted.
BY_QUEUE = " UNION ALL ".join(
    f"SELECT queue_name, '{state}' AS state, count(*) AS number FROM jobs"
    f" WHERE state = '{state}' GROUP BY {'lane, ' * (state == 'ready')}queue_name"
    for state in NOT_FINISHED
)

QUEUES = f"""
SELECT name, paused_at, coalesce(sum(number) FILTER (WHERE state <> 'running'), 0),
    coalesce(sum(number) FILTER (WHERE state = 'running'), 0)
FROM queues LEFT JOIN ({BY_QUEUE}) ON queue_name = name
GROUP BY name ORDER BY name
"""

SCHEDULES = f"SELECT {SCHEDULE_COLUMNS} FROM schedules ORDER BY name"


def list_jobs(connection: Connection, query: JobQuery) -> list[JobRecord]:
    """Jobs with their attempts, without their results, newest first.

    A finished status is an index, and so is RUNNING. READY, and the other conditions, look at the
    jobs from the newest on until the page is full.
    """
    source, conditions = "jobs", ["1"]
    bindings: list[Any] = []
    if query.status is not None:
        conditions.append(f"state IN ({states_sql(query.status)})")
        if query.status is JobStatus.RUNNING:  # few; SQLite would rather save the sorting
            source, conditions = "jobs INDEXED BY jobs_running", ["state = 'running'"]
        elif query.status.is_finished:
            conditions.append(IS_FINISHED)
    for column, value in filters(query):
        conditions.append(f"{column} = ?")
        bindings.append(value)
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM {source} WHERE {' AND '.join(conditions)}"
        " ORDER BY seq DESC LIMIT ? OFFSET ?",
        (*bindings, max(1, min(query.limit, 1000)), max(0, query.offset)),
    ).fetchall()
    return [with_attempts(connection, row) for row in rows]


def page(connection: Connection, query: JobQuery, look: int) -> JobPage:
    """See Engine.page."""
    rows, found = Search(connection, SQLITE).page(query, look)
    return msgspec.structs.replace(found, jobs=[with_attempts(connection, row) for row in rows])


def count(connection: Connection) -> dict[JobStatus, int]:
    """How many jobs have each status: reads indexes only."""
    return count_statuses(connection.execute(COUNTS))


def queues(connection: Connection) -> list[QueueInfo]:
    """Every queue that has ever had a job: reads the indexes of jobs that are not finished."""
    return queue_infos(connection.execute(QUEUES))


def schedules(connection: Connection) -> list[ScheduleInfo]:
    """Every schedule that a worker has ever seen."""
    return schedule_infos(connection.execute(SCHEDULES))


def arguments(connection: Connection, job_id: str) -> str:
    """The encoded arguments of a job (JSON). Raises JobNotFound."""
    args: str = connection.execute(
        "SELECT coalesce(jobs.args, payloads.args) FROM jobs"
        " LEFT JOIN payloads USING (seq) WHERE seq = ?",
        (find(connection, job_id)[0],),
    ).get
    return args


def ids(connection: Connection, beginning: str) -> list[str]:
    """Up to two ids that begin so: their numbers are a range."""
    found = seq_range(beginning)
    if found is None:
        return []
    rows = connection.execute(
        f"SELECT {ID} FROM jobs WHERE given_id BETWEEN ? AND ? || 'g' UNION ALL"
        " SELECT id FROM jobs WHERE seq BETWEEN ? AND ? AND substr(id, 1, ?) = ?"
        " AND given_id IS NULL LIMIT 2",
        (beginning, beginning, *found, len(beginning), beginning),
    )
    return [job_id for (job_id,) in rows]
