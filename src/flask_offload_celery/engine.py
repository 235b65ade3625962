"""The sender half of the Celery engine: jobs in Redis, their messages on the app's own broker."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from flask_offload.engines.base import (
    Engine,
    Finding,
    Flags,
    JobQuery,
    QueueInfo,
    ScheduleInfo,
    WorkOptions,
)
from flask_offload.engines.host import Host
from flask_offload.errors import EngineUnavailable, JobNotFound
from flask_offload.jobs.job import JobRecord, JobStatus
from flask_offload.jobs.new_job import NewJob
from flask_offload.jobs.transition import check_cancel, check_retry

from .connections import Office
from .outbox import Outbox
from .producer import Entrance
from .records import decode_job, new_record, record
from .scheduler import known_schedules

_engines: weakref.WeakSet[CeleryEngine] = weakref.WeakSet()

EXAMINED = 10_000
"""Jobs that a listing looks at, at most, to find those that are asked for."""
CHUNK = 200


class CeleryEngine(Engine):
    """Jobs that Celery workers run. Every method may raise EngineUnavailable, and ConfigError when
    the app's Celery can't be found."""

    name = "celery"
    flags: ClassVar[Flags] = Flags(
        durable=True,
        deferred=True,
        priorities=True,
        lists=True,
        cancels_waiting=True,
        cancels_running=True,
        pauses=True,
        retries=True,
        unique=True,
        schedules=True,
        isolates=True,
        retention=True,
        transactional_batches=True,
        worker_command=True,
        outbox=True,
    )

    def __init__(self, state: Host) -> None:
        self.office = Office(state)
        self._clock = state.clock
        self._entrance = Entrance(self.office)
        if state.config.outbox:
            path = state.database.with_name(state.database.name + "-outbox")
            durable = state.config.durability == "power"
            self.office.outbox = Outbox(path, durable=durable, deliver=self._entrance.deliver)
        _engines.add(self)

    # --- accept ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Write the jobs down, then send their messages: all or none."""
        self.office.open()  # mistakes of set-up are no outage
        return self._entrance.accept(jobs)

    # --- tell ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        try:
            return self.office.bounded(lambda: self.office.read(job_id))
        except (JobNotFound, EngineUnavailable):
            waiting = self._in_outbox(job_id)
            if waiting is None:
                raise
            return new_record(waiting, now=self._clock())

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs with their attempts, without their results, newest first. A filter looks at the
        newest EXAMINED jobs."""
        wanted = (query.task, query.queue_name, query.owner)
        names = [
            name
            for name, value in zip(("task", "queue", "owner"), wanted, strict=True)
            if value is not None
        ]
        values = [value for value in wanted if value is not None]
        index = "all" if query.status is None else f"is:{query.status}"

        def work() -> list[JobRecord]:
            found: list[str] = []
            ledger = self.office.ledger
            end = query.offset + max(1, min(query.limit, 1000))
            for start in range(0, EXAMINED, CHUNK):
                ids = ledger.ask("ZRANGE", index, start, start + CHUNK - 1, "REV")
                if names and ids:
                    rows = ledger.ask_all([("HMGET", f"job:{one}", *names) for one in ids])
                    found += [one for one, row in zip(ids, rows, strict=True) if row == values]
                else:
                    found += ids
                if len(ids) < CHUNK or len(found) >= end:
                    break
            rows_found = ledger.read(found[max(0, query.offset) : end])
            now = self._clock()
            return [record(row, tried, None, now=now) for row, tried, _ in rows_found if row]

        return self.office.bounded(work)

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        waiting = self._in_outbox(job_id)
        if waiting is not None:
            return waiting.args
        body = self.office.bounded(lambda: self.office.ledger.ask("HGET", f"job:{job_id}", "body"))
        if body is None:
            raise JobNotFound(f"there is no job {job_id!r}")
        return decode_job(body).args

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        limits = (f"[{beginning}", f"({beginning}\xff", "LIMIT", 0, 2)
        office = self.office
        found: list[str] = office.bounded(lambda: office.ledger.ask("ZRANGEBYLEX", "ids", *limits))
        return found

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        commands = [("ZCARD", f"is:{status}") for status in JobStatus]
        numbers = self.office.bounded(lambda: self.office.ledger.ask_all(commands))
        return dict(zip(JobStatus, numbers, strict=True))

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""
        commands = [("SMEMBERS", "queues"), ("HGETALL", "tally"), ("HGETALL", "paused")]
        names, tally, paused = self.office.bounded(lambda: self.office.ledger.ask_all(commands))
        return [
            QueueInfo(
                name=name,
                ready=int(tally.get(f"{name}|{JobStatus.READY}", 0)),
                running=int(tally.get(f"{name}|{JobStatus.RUNNING}", 0)),
                paused_at=float(paused[name]) if name in paused else None,
            )
            for name in sorted({*names, *paused})
        ]

    def schedules(self) -> Sequence[ScheduleInfo]:
        """Every schedule that a worker has ever seen."""
        return self.office.bounded(lambda: known_schedules(self.office.ledger))

    # --- change ---

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job; ask the worker of a running one to stop it."""
        now = self._clock()
        how = 2 if force else 1

        def work() -> JobRecord:
            expires = now + self.office.host.keep_unsuccessful(
                self.office.read(job_id).task, JobStatus.CANCELLED
            )
            before = self.office.ledger.run("cancel", job_id, how, now, expires)
            if before:
                check_cancel(JobStatus(before), job_id)
            return self.office.read(job_id)

        with self._minding_outbox(job_id, "cancelled"):
            return self.office.bounded(work)

    def retry(self, job_id: str) -> JobRecord:
        """Put a failed or cancelled job back in its queue, its counts of failures at nought."""

        def work() -> JobRecord:
            before = self.office.ledger.run("retry", job_id, self._clock(), 1.0)
            if before:
                check_retry(JobStatus(before), job_id)
                self.office.send_again([job_id])
            return self.office.read(job_id)

        self.office.open()
        with self._minding_outbox(job_id, "retried"):
            return self.office.deadline.run(lambda _: work())

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue. Their messages are taken from the broker, and the jobs
        wait in the records."""
        now = self._clock()
        self.office.bounded(lambda: self.office.ledger.ask("HSETNX", "paused", queue_name, now))

    def resume(self, queue_name: str) -> None:
        """Take back pause(). Workers send the messages again."""
        now = self._clock()
        self.office.bounded(lambda: self.office.ledger.run("resume", queue_name, now))

    def clear(self) -> None:
        """Forget every job and schedule. Messages that are still under way then come to nothing."""
        self.office.bounded(self.office.ledger.clear)

    def work(self, options: WorkOptions) -> int:
        """Be a Celery worker until told to stop; the exit code."""
        from .work import work  # what only workers need is loaded only there

        return work(self.office, options)

    def findings(self) -> Iterable[Finding]:
        """Whether Redis and the broker can be reached, who works, and what is stuck."""
        from .health import look_into  # only a command asks

        return look_into(self.office)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._entrance.close()
        self.office.close()

    # --- steps ---

    def _forget_parent(self) -> None:
        self.office.forget_parent()
        self._entrance.forget_parent()

    def _in_outbox(self, job_id: str) -> NewJob | None:
        """A job that is accepted and could not be relayed yet."""
        waiting = None if self.office.outbox is None else self.office.outbox.get(job_id)
        if self.office.outbox is not None and waiting is not None:
            self.office.outbox.relay()
        return waiting

    @contextmanager
    def _minding_outbox(self, job_id: str, done: str) -> Iterator[None]:
        try:
            yield
        except (JobNotFound, EngineUnavailable) as error:
            if self._in_outbox(job_id) is None:
                raise
            raise EngineUnavailable(
                f"job {job_id} waits in this machine's outbox until Redis and Celery's broker can"
                f" be reached, and can't be {done} before: try again then"
            ) from error


def _after_fork() -> None:
    for engine in list(_engines):
        engine._forget_parent()


os.register_at_fork(after_in_child=_after_fork)
