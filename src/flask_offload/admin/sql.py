"""What operators ask of both SQL engines: lists, counts, queues, schedules, many jobs at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self

from ..engines.base import LOOK, FailureGroup, JobPage, JobQuery, QueueInfo, ScheduleInfo
from ..engines.counter_row import CounterRow, EnqueueTimes
from ..engines.counters import ADDED, ENQUEUED, RUNS, WAITED
from ..engines.host import Host
from ..engines.sql_sender import C, Row, SqlSender, T
from ..errors import InvalidTransition, JobNotFound
from ..jobs.attempt import Ending
from ..jobs.job import JobRecord, JobStatus
from .search import Search

CURSOR = "SELECT cursor FROM offload.jobs WHERE seq = ?"

PAUSE = """
INSERT INTO offload.queues AS known (name, paused_at) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET paused_at = coalesce(known.paused_at, excluded.paused_at)
"""
RESUME = """
INSERT INTO offload.queues (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET paused_at = NULL
"""

DISABLE = """
INSERT INTO offload.schedules AS known (name, task, description, last_at, disabled_at)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET disabled_at = coalesce(known.disabled_at, excluded.disabled_at)
"""
ENABLE = """
UPDATE offload.schedules SET disabled_at = NULL,
    last_at = CASE WHEN last_at < ? THEN ? ELSE last_at END
WHERE name = ? AND disabled_at IS NOT NULL
"""
"""The times that have passed meanwhile are dealt with: none is caught up."""

COUNTERS = f"""
SELECT minute, '', ending, status, {ADDED} FROM offload.counters WHERE minute >= ? AND ending <> ?
GROUP BY minute, ending, status ORDER BY minute
"""
TOTALS = f"""
SELECT 0, task, ending, status, {ADDED} FROM offload.counters WHERE ending <> ?
GROUP BY task, ending, status ORDER BY task, ending, status
"""
ENQUEUE_TIMES = f"""
SELECT {", ".join(f"coalesce(sum({name}), 0)" for name in ["attempts", "ran", *RUNS])}
FROM offload.counters WHERE ending = ?
"""


class SqlAdmin(SqlSender[C]):
    """The part of a SQL engine that no worker needs."""

    tables: ClassVar[tuple[str, ...]]
    """Those that `clear` empties."""

    host: Host
    """The app."""

    @classmethod
    def of(cls, host: Host) -> Self:
        """The engine of this app. Raises ConfigError."""
        engine = cls.open(
            str(host.database),
            host.config,
            keep_cancelled=lambda task: host.keep_unsuccessful(task, JobStatus.CANCELLED),
            clock=lambda: host.clock(),
        )
        engine.host = host
        return engine

    # --- look ---

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs with their attempts, without their results, newest first."""
        return self._search(lambda c, search: self._do.records(c, search.newest(query)))

    def page(self, query: JobQuery, look: int = LOOK) -> JobPage:
        """Jobs without their results, newest first, in a bounded time."""
        return self._search(
            lambda c, search: search.page(query, look, lambda rows: self._do.records(c, rows))
        )

    def matching(self, query: JobQuery, look: int = LOOK) -> tuple[int, bool]:
        """How many of the jobs that `page` would look at match, and whether there are more."""
        return self._search(lambda _, search: search.matching(query, look))

    def failures(self, look: int = LOOK) -> Sequence[FailureGroup]:
        """The newest FAILED jobs by task and type of error."""
        return self._search(lambda _, search: search.failures(look))

    def waiting_since(self) -> float | None:
        """Since when the job that is first in line waits (unix seconds)."""
        return self._search(lambda _, search: search.waiting_since())

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        return self._search(lambda _, search: search.count())

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""
        return self._search(lambda _, search: search.queues())

    def schedules(self) -> Sequence[ScheduleInfo]:
        """Every schedule that a worker has ever seen."""
        return self._search(lambda _, search: search.schedules())

    def counters(self, since: float) -> Sequence[CounterRow]:
        """See Engine.counters."""
        return [_counters(row) for row in self._all(COUNTERS, max(1, int(since)), ENQUEUED)]

    def totals(self) -> Sequence[CounterRow]:
        """See Engine.totals."""
        return [_counters(row) for row in self._all(TOTALS, ENQUEUED)]

    def enqueue_times(self) -> EnqueueTimes:
        """See Engine.enqueue_times."""
        [(calls, seconds, *buckets)] = self._all(ENQUEUE_TIMES, ENQUEUED)
        return EnqueueTimes(calls=int(calls), seconds=seconds, up_to=[int(n) for n in buckets])

    def checkpoint(self, job_id: str) -> str | None:
        """See Engine.checkpoint."""
        now = self.clock()

        def work(connection: C) -> str | None:
            row = self._one(connection, CURSOR, self._do.full(connection, job_id, now)[0])
            return None if row is None else row[0]

        return self.database.read(work)

    def _all(self, statement: str, *bindings: Any) -> Sequence[Row]:
        plain = self.dialect.sql(statement)
        return self.database.read(lambda c: c.execute(plain, bindings).fetchall())

    def _search(self, ask: Callable[[C, Search], T]) -> T:
        return self.database.read(
            lambda connection: ask(connection, Search(connection, self.dialect))
        )

    # --- change ---

    def cancel_many(self, ids: Sequence[str], force: bool = False) -> int:
        """See Engine.cancel_many."""
        return self._change_many(ids, lambda c, row, now: self._cancel(c, row, now, force))

    def retry_many(self, ids: Sequence[str]) -> int:
        """See Engine.cancel_many."""
        return self._change_many(ids, self._retry)

    def _change_many(self, ids: Sequence[str], change: Callable[[C, Row, float], None]) -> int:
        now = self.clock()

        def work(connection: C) -> int:
            changed = 0
            for job_id in ids:
                with suppress(JobNotFound, InvalidTransition):
                    change(connection, self._do.find(connection, job_id), now)
                    changed += 1
            return changed

        return self.write_and_notify(work)

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue; survives restarts."""
        now = self.clock()

        def work(connection: C) -> None:
            connection.execute(self.dialect.sql(PAUSE), (queue_name, now))
            self._do.give_capacity_back(connection, now, queue_name)

        self.database.write(work)

    def resume(self, queue_name: str) -> None:
        """Take back pause()."""
        now = self.clock()

        def work(connection: C) -> None:
            connection.execute(self.dialect.sql(RESUME), (queue_name,))
            self._do.admit_queue(connection, now, queue_name)

        self.write_and_notify(work)

    def disable_schedule(self, schedule: ScheduleInfo) -> None:
        """Make no more jobs of a schedule; survives restarts."""
        now = self.clock()
        values = (schedule.name, schedule.task, schedule.description, now, now)
        self.database.write(lambda c: c.execute(self.dialect.sql(DISABLE), values))

    def enable_schedule(self, name: str) -> None:
        """Take back disable_schedule()."""
        now = self.clock()
        statement = self.dialect.sql(ENABLE)
        self.database.write(lambda c: c.execute(statement, (now, now, name)))

    def clear(self) -> None:
        """Forget every job, limit and schedule; queues stay, but none is paused."""

        def work(connection: C) -> None:
            for table in self.tables:
                connection.execute(self.dialect.sql(f"DELETE FROM offload.{table}"))
            connection.execute(self.dialect.sql("UPDATE offload.queues SET paused_at = NULL"))

        self.database.write(work)


def _counters(row: Row) -> CounterRow:
    minute, task, ending, status, attempts, ran, starts, waited, *buckets = row
    return CounterRow(
        minute=float(minute),
        task=task,
        ending=None if ending == WAITED else Ending(ending),
        status=JobStatus(status),
        attempts=int(attempts),
        ran=ran,
        starts=int(starts),
        waited=waited,
        ran_up_to=[int(number) for number in buckets[: len(RUNS)]],
        waited_up_to=[int(number) for number in buckets[len(RUNS) :]],
    )
