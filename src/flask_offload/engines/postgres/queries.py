"""What can be asked about many jobs, and which index answers."""

from __future__ import annotations

from typing import Any

from ...jobs.job import FINISHED, JobRecord, JobStatus
from ..base import JobQuery, QueueInfo, ScheduleInfo
from ..rows import COLUMNS, STATUS, WAITING, states_sql
from .connection import PgConnection
from .rows import find, with_attempts

NOT_FINISHED = (*WAITING, "running")
IS_FINISHED = f"state IN ({states_sql(*FINISHED)})"
"""In the words of the index `jobs_finished`, so that PostgreSQL sees that it may use it."""

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

SCHEDULES = """
SELECT name, task, description, last_fire, last_job, next_at FROM offload.schedules ORDER BY name
"""

IDS = """
SELECT id FROM offload.jobs WHERE seq BETWEEN %s AND %s AND starts_with(id, %s) LIMIT 2
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
    for column, value in (
        ("task", query.task),
        ("queue_name", query.queue_name),
        ("owner", query.owner),
    ):
        if value is not None:
            conditions.append(f"{column} = %s")
            bindings.append(value.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM offload.jobs WHERE {' AND '.join(conditions)}"
        " ORDER BY seq DESC LIMIT %s OFFSET %s",
        (*bindings, max(1, min(query.limit, 1000)), max(0, query.offset)),
    ).fetchall()
    return with_attempts(connection, rows)


def count(connection: PgConnection) -> dict[JobStatus, int]:
    """How many jobs have each status."""
    counts = dict.fromkeys(JobStatus, 0)
    for state, number in connection.execute(COUNTS):
        counts[STATUS[state]] += number
    return counts


def queues(connection: PgConnection) -> list[QueueInfo]:
    """Every queue that has ever had a job."""
    return [
        QueueInfo(name=name, paused_at=paused, ready=ready, running=running)
        for name, paused, ready, running in connection.execute(QUEUES)
    ]


def schedules(connection: PgConnection) -> list[ScheduleInfo]:
    """Every schedule that a worker has ever seen."""
    return [
        ScheduleInfo(
            name=name,
            task=task,
            description=description,
            last_run=last_run,
            last_job=last_job,
            next_run=next_run,
        )
        for name, task, description, last_run, last_job, next_run in connection.execute(SCHEDULES)
    ]


def arguments(connection: PgConnection, job_id: str) -> str:
    """The encoded arguments of a job (JSON). Raises JobNotFound."""
    seq = find(connection, job_id)[0]
    args: str = connection.value("SELECT args FROM offload.jobs WHERE seq = %s", (seq,))
    return args


def ids(connection: PgConnection, beginning: str) -> list[str]:
    """Up to two ids that begin so: their numbers are a range."""
    number = beginning[:12]
    try:
        lowest, highest = int(number.ljust(12, "0"), 16), int(number.ljust(12, "f"), 16)
    except ValueError:
        return []
    if not beginning.isascii() or "\0" in beginning or lowest < 0:
        return []
    return [row[0] for row in connection.execute(IDS, (lowest, highest, beginning))]
