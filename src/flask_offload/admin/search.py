"""What can be asked about many jobs, for the stores whose statements are SQL, and which index
answers: a million waiting ones must not make it slow. `page` is a bounded look at a table of any
length.

The inner query takes jobs by an index, the newest first, and at most `look` of them; the outer one
tests the other conditions. In its statements `offload.` stands for the schema, and `?` for a
parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engines.attempt_writes import SqlConnection
from ..engines.base import FailureGroup, JobPage, JobQuery, QueueInfo, ScheduleInfo
from ..engines.dialect import Dialect
from ..engines.rows import (
    COLUMNS,
    ID,
    SECRET_LENGTH,
    STATES,
    STATUS,
    WAITING,
)
from ..jobs.job import FINISHED, JobRecord, JobStatus
from ..jobs.new_job import ASYNC, ISOLATED, QUARANTINED, THREADS


def states_sql(*statuses: JobStatus) -> str:
    """These statuses as the inside of an SQL `IN (…)`."""
    return ", ".join(f"'{state}'" for status in sorted(statuses) for state in STATES[status])


NOT_FINISHED = (*WAITING, "running")
IS_FINISHED = f"state IN ({states_sql(*FINISHED)})"
"""In the words of the index `jobs_finished`, so that a database sees that it may use it."""


FIRST_FROM = "SELECT seq, enqueued_at FROM offload.jobs WHERE seq >= ? ORDER BY seq LIMIT 1"
RANGE = "SELECT (SELECT min(seq) FROM offload.jobs), (SELECT max(seq) FROM offload.jobs)"

LAST_ERROR = """
SELECT 1 FROM offload.attempts WHERE attempts.seq = looked.seq AND number = attempt
    AND error_type = ?
"""

FAILURES = f"""
SELECT task, error_type, count(*), max(looked.seq) FROM (
    SELECT seq, task, attempt FROM offload.jobs WHERE state = 'failed' AND {IS_FINISHED}
    ORDER BY seq DESC LIMIT ?
) AS looked LEFT JOIN offload.attempts
    ON attempts.seq = looked.seq AND attempts.number = looked.attempt
GROUP BY task, error_type ORDER BY 4 DESC
"""

FAILURE = f"""
SELECT {ID}, finished_at, (
    SELECT error_message FROM offload.attempts
    WHERE attempts.seq = jobs.seq AND attempts.number = jobs.attempt)
FROM offload.jobs WHERE seq = ?
"""

FIRST_IN_LINE = """
SELECT priority, enqueued_at, run_after FROM offload.jobs
WHERE state = 'ready' AND lane = ? AND queue_name = ? AND priority < ?
ORDER BY priority DESC, seq LIMIT 1
"""
LANES = (THREADS, ASYNC, ISOLATED, QUARANTINED)


COUNTS = " UNION ALL ".join(
    [
        *(
            f"SELECT '{state}', count(*) FROM offload.jobs WHERE state = '{state}'"
            for state in NOT_FINISHED
        ),
        f"SELECT state, count(*) FROM offload.jobs WHERE {IS_FINISHED} GROUP BY state",
    ]
)

# The ready ones in the order of their index, so that nothing needs to be sorted.
BY_QUEUE = " UNION ALL ".join(
    f"SELECT queue_name, '{state}' AS state, count(*) AS number FROM offload.jobs"
    f" WHERE state = '{state}' GROUP BY {'lane, ' * (state == 'ready')}queue_name"
    for state in NOT_FINISHED
)

QUEUES = f"""
SELECT name, paused_at,
    CAST(coalesce(sum(number) FILTER (WHERE state <> 'running'), 0) AS bigint),
    CAST(coalesce(sum(number) FILTER (WHERE state = 'running'), 0) AS bigint)
FROM offload.queues LEFT JOIN ({BY_QUEUE}) AS numbers ON queue_name = name
GROUP BY name ORDER BY name
"""

SCHEDULES = """
SELECT name, task, description, last_fire, last_job, next_at, disabled_at
FROM offload.schedules ORDER BY name
"""
"""The fields of ScheduleInfo, in their order."""

Records = Callable[[list[tuple[Any, ...]]], list[JobRecord]]


class Search:
    """One query on one connection."""

    def __init__(self, connection: SqlConnection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def newest(self, query: JobQuery) -> list[tuple[Any, ...]]:
        """Rows of COLUMNS, the newest first.

        A finished status is an index, and so is RUNNING. READY, and the other conditions, look at
        the jobs from the newest on until the page is full.
        """
        source, conditions = "offload.jobs", ["1 = 1"]
        bindings: list[Any] = []
        if query.status is JobStatus.RUNNING:
            source, conditions = self._dialect.running_jobs, ["state = 'running'"]
        elif query.status is not None:
            conditions = [f"state IN ({states_sql(query.status)})"]
            if query.status.is_finished:
                conditions.append(IS_FINISHED)
        for column, value in filters(query):
            conditions.append(f"{column} = ?")
            bindings.append(_plain(value))
        return self._all(
            f"SELECT {COLUMNS} FROM {source} WHERE {' AND '.join(conditions)}"
            " ORDER BY seq DESC LIMIT ? OFFSET ?",
            *(*bindings, max(1, min(query.limit, 1000)), max(0, query.offset)),
        )

    def page(self, query: JobQuery, look: int, records: Records) -> JobPage:
        """See Engine.page. records: makes records of rows of COLUMNS."""
        inner, bindings = self._window(query, look)
        tests, values = self._tests(query)
        limit = max(1, min(query.limit, 1000))
        rows = self._all(
            f"SELECT {COLUMNS} FROM ({inner}) AS looked WHERE {' AND '.join(['1 = 1', *tests])}"
            " ORDER BY seq DESC LIMIT ?",
            *(*bindings, *values, limit + 1),
        )
        if len(rows) > limit:
            return JobPage(jobs=records(rows[:limit]), next=f"{rows[limit - 1][0]:x}")
        [(number, last)] = self._all(
            f"SELECT count(*), min(seq) FROM ({inner}) AS looked", *bindings
        )
        if number < look:
            return JobPage(jobs=records(rows), next=None)
        return JobPage(jobs=records(rows), next=f"{last:x}", is_partial=True)

    def matching(self, query: JobQuery, look: int) -> tuple[int, bool]:
        """See Engine.matching."""
        inner, bindings = self._window(query, look)
        tests, values = self._tests(query)
        where = " AND ".join(["1 = 1", *tests])
        [(count,)] = self._all(
            f"SELECT count(*) FROM ({inner}) AS looked WHERE {where}", *bindings, *values
        )
        [(number,)] = self._all(f"SELECT count(*) FROM ({inner}) AS looked", *bindings)
        return count, number >= look

    def _window(self, query: JobQuery, look: int) -> tuple[str, list[Any]]:
        """The jobs to look at, found by indexes."""
        conditions, bindings = self._between(query)
        if query.owner is not None:  # by its index; the status is among the tests
            conditions.append("owner = ?")
            bindings.append(_plain(query.owner))
        elif query.status is not None and query.status.is_finished:
            conditions += [f"state IN ({states_sql(query.status)})", IS_FINISHED]
        elif query.status is not None:
            some = self._few(query.status, look)
            if some is not None:
                conditions.append(f"seq IN ({', '.join(map(str, some)) or 'NULL'})")
        where = " AND ".join(conditions) or "1 = 1"
        statement = f"SELECT * FROM offload.jobs WHERE {where} ORDER BY seq DESC LIMIT ?"
        return statement, [*bindings, look]

    def _between(self, query: JobQuery) -> tuple[list[str], list[Any]]:
        """Where the look begins and ends; the numbers of jobs go with the time."""
        conditions: list[str] = []
        bindings: list[Any] = []
        if query.after is not None:
            conditions.append("seq < ?")
            bindings.append(_number(query.after))
        for condition, moment in (("seq >= ?", query.since), ("seq < ?", query.until)):
            if moment is not None:
                conditions.append(condition)
                bindings.append(self._first_from(moment))
        return conditions, bindings

    def _first_from(self, moment: float) -> int:
        """The least number of a job that was enqueued at this moment or later."""
        [(low, high)] = self._all(RANGE)
        if low is None:
            return 0
        high += 1
        while low < high:
            middle = (low + high) // 2
            rows = self._all(FIRST_FROM, middle)
            if not rows or rows[0][1] >= moment:
                high = middle
            else:
                low = rows[0][0] + 1
        return int(low)

    def _few(self, status: JobStatus, look: int) -> list[int] | None:
        """The numbers of all jobs of a status that is not final; None if they are more than `look`:
        no index has them in the order of their age."""
        found: list[int] = []
        for state in STATES[status]:
            rows = self._all(
                f"SELECT seq FROM offload.jobs WHERE state = '{state}' LIMIT ?",
                look - len(found) + 1,
            )
            found += [seq for (seq,) in rows]
            if len(found) > look:
                return None
        return found

    def _tests(self, query: JobQuery) -> tuple[list[str], list[Any]]:
        tests: list[str] = []
        values: list[Any] = []
        if query.status is not None:
            tests.append(f"state IN ({states_sql(query.status)})")
        for column, value in filters(query):
            tests.append(f"{column} = ?")
            values.append(_plain(value))
        if query.error is not None:
            tests.append(f"EXISTS ({LAST_ERROR})")
            values.append(_plain(query.error))
        if query.text is not None:
            like = f"{self._dialect.like} ? ESCAPE '\\'"
            parts = [f"args {like}", f"message {like}"]
            if self._dialect.side_args:
                parts.append(f"{self._dialect.side_args} {like})")
            parts.append(
                "EXISTS (SELECT 1 FROM offload.attempts WHERE attempts.seq = looked.seq"
                f" AND (error_message {like} OR error_type {like}))"
            )
            tests.append(f"({' OR '.join(parts)})")
            values += [_pattern(query.text)] * (len(parts) + 1)
        return tests, values

    # --- other questions ---

    def failures(self, look: int) -> list[FailureGroup]:
        """See Engine.failures."""
        found = []
        for task, error, count, seq in self._all(FAILURES, look):
            [(job_id, at, message)] = self._all(FAILURE, seq)
            found.append(
                FailureGroup(
                    task=task, error=error, count=count, job_id=job_id, message=message, at=at
                )
            )
        return found

    def waiting_since(self) -> float | None:
        """See Engine.waiting_since: the head of each line, by the index of ready jobs."""
        oldest: float | None = None
        for (queue_name,) in self._all("SELECT name FROM offload.queues WHERE paused_at IS NULL"):
            for lane in LANES:
                below = 1000
                while rows := self._all(FIRST_IN_LINE, lane, queue_name, below):
                    below, enqueued_at, run_after = rows[0]
                    since = max(enqueued_at, run_after or enqueued_at)
                    oldest = since if oldest is None else min(oldest, since)
        return oldest

    def count(self) -> dict[JobStatus, int]:
        """See Engine.count: reads indexes only."""
        counts = dict.fromkeys(JobStatus, 0)
        for state, number in self._all(COUNTS):
            counts[STATUS[state]] += number
        return counts

    def queues(self) -> list[QueueInfo]:
        """See Engine.queues: reads the indexes of jobs that are not finished."""
        return [
            QueueInfo(name=name, paused_at=paused, ready=ready, running=running)
            for name, paused, ready, running in self._all(QUEUES)
        ]

    def schedules(self) -> list[ScheduleInfo]:
        """See Engine.schedules."""
        names = ScheduleInfo.__struct_fields__
        return [ScheduleInfo(**dict(zip(names, row, strict=True))) for row in self._all(SCHEDULES)]

    def _all(self, statement: str, *bindings: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.execute(
            self._dialect.sql(statement), bindings
        ).fetchall()
        return rows


def filters(query: JobQuery) -> list[tuple[str, str]]:
    """(column, value) that a job of this query has, besides its status."""
    wanted = (("task", query.task), ("queue_name", query.queue_name), ("owner", query.owner))
    return [(column, value) for column, value in wanted if value is not None]


def seq_range(beginning: str) -> tuple[int, int] | None:
    """The least and the greatest number of an id that begins so; None if there is no such id."""
    number = beginning[:12]
    try:
        return int(number.ljust(12, "0"), 16), int(number.ljust(12, "f"), 16)
    except ValueError:
        return None


def _number(cursor: str) -> int:
    """The number that a cursor, or a job's id, stands for; a wrong one begins at the end of the
    list."""
    try:
        cursor = cursor[:-SECRET_LENGTH] if len(cursor) > SECRET_LENGTH else cursor
        return min(int(cursor, 16), 2**63 - 1) if len(cursor) <= 16 else 0
    except ValueError:
        return 0


def _plain(text: str) -> str:
    """Without what no database stores."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _pattern(text: str) -> str:
    escaped = _plain(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
