"""The sender half of the embedded engine: accept jobs, tell how they stand, change their fate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...errors import JobNotFound
from ...job import JobRecord, JobStatus, check_transition
from ..base import Engine, Flags, JobQuery, NewJob, QueueInfo, ScheduleInfo
from .admission import admit, keep_limits
from .bell import Bells
from .connection import Connection
from .database import Database
from .liveness import run_folder
from .rows import (
    CANCELLABLE,
    COLUMNS,
    JOB_BY_ID,
    RETRYABLE,
    STATUS,
    WAITING,
    WAITING_FOR,
    full,
    record,
    states_sql,
    with_attempts,
)
from .schema import SIDE_TABLES
from .ticks import known_schedules

INLINE_ARGS = 512
"""Characters of arguments that stay in the job's row; larger ones lie in `payloads`.

Moving a row rewrites its page, so a large row would make every move dear (1 MB: 4 MB of log per
job); a small payload in the row saves an insert, a look-up and a delete.
"""

INSERT = """
INSERT INTO jobs (id, task, queue_name, lane, priority, state, on_crash, origin, owner, enqueued_at,
    run_after, unique_key, concurrency_key, rate_key, context, args)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

JOB_TABLES = ("jobs", *SIDE_TABLES, "files", "limits", "starts", "schedules")


class SqliteEngine(Engine):
    """Jobs in one SQLite file. Every method may raise the subclasses of EngineUnavailable.

    keep_failed: seconds that a cancelled job is kept.
    clock: unix seconds; tests travel in time with it.
    """

    name = "sqlite"
    flags: ClassVar[Flags] = Flags(**dict.fromkeys(Flags.names(), True))

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        busy_timeout: float = 5.0,
        force: bool = False,
        keep_failed: float = 30 * 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(path, durable=durable, busy_timeout=busy_timeout, force=force)
        self.bells = Bells(run_folder(path))
        self.clock = clock
        self._keep_failed = keep_failed
        self._known_queues: set[tuple[int, str]] = set()  # in which opening of the file

    # --- accept ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs in one transaction, then ring the workers."""
        now, opening = self.clock(), self.database.openings
        records = self.database.write(lambda connection: self.insert(connection, jobs, now))
        # not before the commit: a queue that was rolled back would never be served
        self._known_queues.update((opening, job.queue_name) for job in jobs)
        self.bells.ring()
        return records

    def insert(self, connection: Connection, jobs: Sequence[NewJob], now: float) -> list[JobRecord]:
        """The work of enqueue() inside a transaction of the caller."""
        records = [self._insert_one(connection, job, now) for job in jobs]
        for name in {job.queue_name for job in jobs}:
            if (self.database.openings, name) not in self._known_queues:
                connection.execute("INSERT OR IGNORE INTO queues VALUES (?, NULL)", (name,))
        limited = [job for job in jobs if job.concurrency_key or job.rate_key]
        if limited:
            self._admit_new(connection, limited, now)
            for found in records:
                found.waiting_for = WAITING_FOR.get(str(_row(connection, found.id)[5]))
        return records

    def _insert_one(self, connection: Connection, job: NewJob, now: float) -> JobRecord:
        if job.unique_key is not None:
            existing = _existing(connection, job, now)
            if existing is not None:
                return existing
        small = len(job.args) <= INLINE_ARGS
        state = _first_state(job, now)
        connection.execute(
            INSERT,
            (
                job.id,
                job.task,
                job.queue_name,
                job.lane,
                job.priority,
                state,
                job.on_crash,
                job.origin,
                job.owner,
                job.enqueued_at,
                job.run_after,
                job.unique_key,
                job.concurrency_key,
                job.rate_key,
                job.context,
                job.args if small else None,
            ),
        )
        if not small or job.files:
            seq = connection.last_insert_rowid()
            if not small:
                connection.execute("INSERT INTO payloads VALUES (?, ?)", (seq, job.args))
            connection.executemany(
                "INSERT INTO files (name, seq) VALUES (?, ?)", [(name, seq) for name in job.files]
            )
        return JobRecord(
            id=job.id,
            task=job.task,
            queue_name=job.queue_name,
            priority=job.priority,
            status=JobStatus.READY,
            enqueued_at=job.enqueued_at,
            run_after=job.run_after,
            owner=job.owner,
            origin=job.origin,
            waiting_for=WAITING_FOR.get(state),
        )

    def _admit_new(self, connection: Connection, jobs: list[NewJob], now: float) -> None:
        keep_limits(
            connection,
            [(job.concurrency_key, job.concurrency or 1) for job in jobs if job.concurrency_key],
            [
                (job.rate_key, job.rate.count, job.rate.window_seconds)
                for job in jobs
                if job.rate_key and job.rate
            ],
        )
        admit(
            connection,
            now,
            concurrency_keys=[job.concurrency_key for job in jobs],
            rate_keys=[job.rate_key for job in jobs],
        )

    # --- tell ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        return self.database.read(lambda connection: full(connection, job_id)[1])

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs with their attempts, without their results, newest first."""
        conditions, bindings = ["1"], []
        if query.status is not None:
            conditions.append(f"state IN ({states_sql(query.status)})")
        for column, value in (
            ("task", query.task),
            ("queue_name", query.queue_name),
            ("owner", query.owner),
        ):
            if value is not None:
                conditions.append(f"{column} = ?")
                bindings.append(value)
        statement = (
            f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(conditions)}"
            " ORDER BY seq DESC LIMIT ? OFFSET ?"
        )
        limits = (max(1, min(query.limit, 1000)), max(0, query.offset))
        return self.database.read(
            lambda connection: [
                with_attempts(connection, row)
                for row in connection.execute(statement, (*bindings, *limits)).fetchall()
            ]
        )

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""

        def work(connection: Connection) -> str:
            seq = _row(connection, job_id)[0]
            args: str = connection.execute(
                "SELECT coalesce(jobs.args, payloads.args) FROM jobs"
                " LEFT JOIN payloads USING (seq) WHERE seq = ?",
                (seq,),
            ).get
            return args

        return self.database.read(work)

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        rows = self.database.read(
            lambda connection: connection.execute(
                "SELECT id FROM jobs WHERE id >= ?1 AND id < ?1 || char(0x10ffff) LIMIT 2",
                (beginning,),
            ).fetchall()
        )
        return [job_id for (job_id,) in rows]

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""

        def work(connection: Connection) -> dict[JobStatus, int]:
            counts = dict.fromkeys(JobStatus, 0)
            for state, number in connection.execute(
                "SELECT state, count(*) FROM jobs GROUP BY state"
            ):
                counts[STATUS[state]] += number
            return counts

        return self.database.read(work)

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""

        def work(connection: Connection) -> list[QueueInfo]:
            waiting = ", ".join(f"'{state}'" for state in WAITING)
            rows = connection.execute(
                f"""SELECT name, paused_at,
                    coalesce(sum(state IN ({waiting})), 0), coalesce(sum(state = 'running'), 0)
                FROM queues LEFT JOIN jobs
                    ON jobs.queue_name = queues.name AND state IN ({waiting}, 'running')
                GROUP BY name ORDER BY name"""
            )
            return [
                QueueInfo(name=name, paused_at=paused, ready=ready, running=running)
                for name, paused, ready, running in rows
            ]

        return self.database.read(work)

    def schedules(self) -> Sequence[ScheduleInfo]:
        """Every schedule that a worker has ever seen."""
        return known_schedules(self)

    # --- change ---

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job; ask the worker of a running one to stop it."""
        now = self.clock()

        def work(connection: Connection) -> JobRecord:
            row = _row(connection, job_id)
            status = STATUS[row[5]]
            check_transition(status, JobStatus.CANCELLED, job_id)
            if status is JobStatus.RUNNING:
                connection.execute(
                    "UPDATE jobs SET cancel = max(cancel, ?) WHERE seq = ? AND state = 'running'",
                    (2 if force else 1, row[0]),
                )
            else:
                keys = connection.execute(
                    "UPDATE jobs SET state = 'cancelled', finished_at = ?1, expires_at = ?2"
                    f" WHERE seq = ?3 AND state IN ({CANCELLABLE})"
                    " RETURNING concurrency_key, rate_key",
                    (now, now + self._keep_failed, row[0]),
                ).fetchall()
                for concurrency_key, rate_key in keys:
                    admit(connection, now, [concurrency_key], [rate_key])
            return full(connection, job_id)[1]

        result = self.database.write(work)
        self.bells.ring()
        return result

    def retry(self, job_id: str) -> JobRecord:
        """Put a failed or cancelled job back in its queue, its counts of failures at nought."""
        now = self.clock()

        def work(connection: Connection) -> JobRecord:
            row = _row(connection, job_id)
            check_transition(STATUS[row[5]], JobStatus.READY, job_id)
            keys = connection.execute(
                "UPDATE jobs SET failures = 0, crashes = 0, cancel = 0, worker = NULL,"
                " run_after = NULL, finished_at = NULL, expires_at = NULL, done = NULL,"
                " total = NULL, message = NULL, state = CASE WHEN concurrency_key IS NOT NULL"
                " THEN 'blocked' WHEN rate_key IS NOT NULL THEN 'throttled' ELSE 'ready' END"
                f" WHERE seq = ? AND state IN ({RETRYABLE}) RETURNING concurrency_key, rate_key",
                (row[0],),
            ).fetchall()
            for concurrency_key, rate_key in keys:
                admit(connection, now, [concurrency_key], [rate_key])
            return full(connection, job_id)[1]

        result = self.database.write(work)
        self.bells.ring()
        return result

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue; survives restarts."""
        now = self.clock()

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO queues (name, paused_at) VALUES (?1, ?2)"
                " ON CONFLICT DO UPDATE SET paused_at = coalesce(paused_at, ?2)",
                (queue_name, now),
            )
            # its limited jobs give their place back, so that other queues can use it
            keys = connection.execute(
                "UPDATE jobs SET state = CASE WHEN concurrency_key IS NULL THEN 'throttled'"
                " ELSE 'blocked' END WHERE queue_name = ? AND (state = 'throttled'"
                " OR (state = 'ready' AND (concurrency_key IS NOT NULL OR rate_key IS NOT NULL)))"
                " RETURNING concurrency_key, rate_key",
                (queue_name,),
            ).fetchall()
            admit(connection, now, [key[0] for key in keys], [key[1] for key in keys])

        self.database.write(work)

    def resume(self, queue_name: str) -> None:
        """Take back pause()."""
        now = self.clock()

        def work(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO queues (name) VALUES (?) ON CONFLICT DO UPDATE SET paused_at = NULL",
                (queue_name,),
            )
            keys = connection.execute(
                "SELECT DISTINCT concurrency_key, rate_key FROM jobs"
                " WHERE queue_name = ? AND state IN ('blocked', 'throttled')",
                (queue_name,),
            ).fetchall()
            admit(connection, now, [key[0] for key in keys], [key[1] for key in keys])

        self.database.write(work)
        self.bells.ring()

    def clear(self) -> None:
        """Forget every job, limit and schedule; queues stay, but none is paused. While no worker
        runs: numbers of jobs are used again, and one of them might be in its hands."""

        def work(connection: Connection) -> None:
            for table in JOB_TABLES:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE queues SET paused_at = NULL")

        self.database.write(work)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.database.close()
        self.bells.close()


def _first_state(job: NewJob, now: float) -> str:
    if job.run_after is not None and job.run_after > now:
        return "scheduled"
    if job.concurrency_key is not None:
        return "blocked"
    return "throttled" if job.rate_key is not None else "ready"


def _existing(connection: Connection, job: NewJob, now: float) -> JobRecord | None:
    """The job that already holds this unique key; None, and the key is free, if there is none."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM jobs WHERE unique_key = ?", (job.unique_key,)
    ).fetchone()
    if row is None:
        return None
    found = record(row)
    states = job.unique_states or frozenset({JobStatus.READY, JobStatus.RUNNING})
    recent = job.unique_for is None or found.enqueued_at > now - job.unique_for
    if found.status in states and recent:
        found.is_duplicate = True
        return found
    connection.execute("UPDATE jobs SET unique_key = NULL WHERE seq = ?", (row[0],))
    return None


def _row(connection: Connection, job_id: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(JOB_BY_ID, (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(
            f"there is no job {job_id!r}: it never existed, or its retention time is over"
        )
    return row
