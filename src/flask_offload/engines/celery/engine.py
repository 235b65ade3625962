"""The sender half of the Celery engine: jobs in Redis, their messages on the app's own broker."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar

from celery import Celery
from flask import Flask

from ...errors import EngineUnavailable, JobNotFound
from ...host import Host, keep_cancelled
from ...job import JobRecord, JobStatus, check_cancel, check_retry
from ..base import (
    Engine,
    Finding,
    Flags,
    JobQuery,
    NewJob,
    QueueInfo,
    ScheduleInfo,
    WorkOptions,
)
from .broker import Broker
from .deadline import Deadline
from .entrance import Entrance
from .ledger import Ledger
from .outbox import Outbox
from .records import decode_job, new_record, record
from .setup import celery_of, check_setup, records_url, settle
from .ticks import known_schedules

if TYPE_CHECKING:
    from .crew import Crew

T = TypeVar("T")

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

    crew: Crew
    """In a worker's processes only."""

    def __init__(self, state: Host) -> None:
        self._state = state
        config = state.config
        check_setup(state.app, config.celery_records)
        self._deadline = Deadline(config.enqueue_timeout, "Redis or Celery's broker")
        # of its own, so that a broker that hangs hides nobody's status
        self._records_deadline = Deadline(
            config.enqueue_timeout, "Redis, which keeps the jobs' records,"
        )
        self._entrance = Entrance(self, self._deadline)
        self.outbox: Outbox | None = None
        if config.outbox:
            path = state.database.with_name(state.database.name + "-outbox")
            durable = config.durability == "power"
            self.outbox = Outbox(path, durable=durable, deliver=self._entrance.deliver)
            self._entrance.outbox = self.outbox
        self._begin_anew()
        _engines.add(self)

    def _begin_anew(self) -> None:
        """At first, and in a forked child, which shares no connection with its parent."""
        self._lock = threading.Lock()
        self._ready: tuple[Celery, Ledger, Broker] | None = None
        self._entrance.forget_parent()

    # --- what it is made of; not before the app is complete ---

    @property
    def celery(self) -> Celery:
        """The app's Celery."""
        return self._parts()[0]

    @property
    def ledger(self) -> Ledger:
        """The jobs' records."""
        return self._parts()[1]

    @property
    def broker(self) -> Broker:
        """The way to the workers."""
        return self._parts()[2]

    @property
    def app(self) -> Flask:
        """The Flask app."""
        return self._state.app

    @property
    def clock(self) -> Callable[[], float]:
        """Unix seconds."""
        return self._state.clock

    @property
    def keep_failed(self) -> float:
        """Seconds for which a job is kept that did not succeed."""
        return self._state.config.keep_failed

    def _parts(self) -> tuple[Celery, Ledger, Broker]:
        with self._lock:
            if self._ready is None:
                config = self._state.config
                celery = celery_of(self._state.app)
                settle(celery)
                timeout = config.enqueue_timeout
                conf = celery.conf
                url = records_url(conf.broker_url, conf.result_backend, config.celery_records)
                ledger = Ledger(url, config.celery_prefix, timeout)
                self._ready = celery, ledger, Broker(celery, timeout)
            return self._ready

    # --- accept ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Write the jobs down, then send their messages: all or none."""
        self._parts()  # mistakes of set-up are no outage
        return self._entrance.accept(jobs)

    def send_again(self, ids: Sequence[str], *, task: str | None = None) -> None:
        """Send the messages of jobs that are READY once more. For callers that may wait.

        task: the name under which Celery knows who can run them; each job's own task.
        """
        self._entrance.send_again(ids, task)

    # --- tell ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        try:
            return self.bounded(lambda: self.read(job_id))
        except (JobNotFound, EngineUnavailable):
            waiting = self._in_outbox(job_id)
            if waiting is None:
                raise
            return new_record(waiting, now=self._state.clock())

    def read(self, job_id: str) -> JobRecord:
        """The same, without a deadline."""
        (fields, attempts, result), *_ = self.ledger.read([job_id])
        if not fields:
            raise JobNotFound(
                f"there is no job {job_id!r}: it never existed, or its retention time is over"
            )
        return record(fields, attempts, result, now=self._state.clock())

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
            end = query.offset + max(1, min(query.limit, 1000))
            for start in range(0, EXAMINED, CHUNK):
                ids = self.ledger.ask("ZRANGE", index, start, start + CHUNK - 1, "REV")
                if names and ids:
                    rows = self.ledger.ask_all([("HMGET", f"job:{one}", *names) for one in ids])
                    found += [one for one, row in zip(ids, rows, strict=True) if row == values]
                else:
                    found += ids
                if len(ids) < CHUNK or len(found) >= end:
                    break
            rows_found = self.ledger.read(found[max(0, query.offset) : end])
            now = self._state.clock()
            return [record(row, tried, None, now=now) for row, tried, _ in rows_found if row]

        return self.bounded(work)

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        waiting = self._in_outbox(job_id)
        if waiting is not None:
            return waiting.args
        body = self.bounded(lambda: self.ledger.ask("HGET", f"job:{job_id}", "body"))
        if body is None:
            raise JobNotFound(f"there is no job {job_id!r}")
        return decode_job(body).args

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        limits = (f"[{beginning}", f"({beginning}\xff", "LIMIT", 0, 2)
        found: list[str] = self.bounded(lambda: self.ledger.ask("ZRANGEBYLEX", "ids", *limits))
        return found

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        commands = [("ZCARD", f"is:{status}") for status in JobStatus]
        numbers = self.bounded(lambda: self.ledger.ask_all(commands))
        return dict(zip(JobStatus, numbers, strict=True))

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""
        commands = [("SMEMBERS", "queues"), ("HGETALL", "tally"), ("HGETALL", "paused")]
        names, tally, paused = self.bounded(lambda: self.ledger.ask_all(commands))
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
        return self.bounded(lambda: known_schedules(self.ledger))

    # --- change ---

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job; ask the worker of a running one to stop it."""
        now = self._state.clock()
        how = 2 if force else 1

        def work() -> JobRecord:
            expires = now + keep_cancelled(self._state, self.read(job_id).task)
            before = self.ledger.run("cancel", job_id, how, now, expires)
            if before:
                check_cancel(JobStatus(before), job_id)
            return self.read(job_id)

        with self._minding_outbox(job_id, "cancelled"):
            return self.bounded(work)

    def retry(self, job_id: str) -> JobRecord:
        """Put a failed or cancelled job back in its queue, its counts of failures at nought."""

        def work() -> JobRecord:
            before = self.ledger.run("retry", job_id, self._state.clock(), 1.0)
            if before:
                check_retry(JobStatus(before), job_id)
                self.send_again([job_id])
            return self.read(job_id)

        self._parts()
        with self._minding_outbox(job_id, "retried"):
            return self._deadline.run(lambda _: work())

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue. Their messages are taken from the broker, and the jobs
        wait in the records."""
        now = self._state.clock()
        self.bounded(lambda: self.ledger.ask("HSETNX", "paused", queue_name, now))

    def resume(self, queue_name: str) -> None:
        """Take back pause(). Workers send the messages again."""
        now = self._state.clock()
        self.bounded(lambda: self.ledger.run("resume", queue_name, now))

    def clear(self) -> None:
        """Forget every job and schedule. Messages that are still under way then come to nothing."""
        self.bounded(self.ledger.clear)

    def work(self, options: WorkOptions) -> int:
        """Be a Celery worker until told to stop; the exit code."""
        from .work import work  # what only workers need is loaded only there

        return work(self, self._state, options)

    def findings(self) -> Iterable[Finding]:
        """Whether Redis and the broker can be reached, who works, and what is stuck."""
        from .health import look_into  # only a command asks

        return look_into(self, self._state)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._entrance.close()
        if self._ready is not None:
            self.ledger.close()
            self.broker.close()

    # --- steps ---

    def bounded(self, work: Callable[[], T]) -> T:
        """What the records answer, within OFFLOAD_ENQUEUE_TIMEOUT."""
        self._parts()
        return self._records_deadline.run(lambda _: work())

    def _in_outbox(self, job_id: str) -> NewJob | None:
        """A job that is accepted and could not be relayed yet."""
        waiting = None if self.outbox is None else self.outbox.get(job_id)
        if self.outbox is not None and waiting is not None:
            self.outbox.relay()
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
        engine._begin_anew()


os.register_at_fork(after_in_child=_after_fork)
