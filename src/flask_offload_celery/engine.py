"""The sender half of the Celery engine: jobs in Redis, their messages on the app's own broker."""

from __future__ import annotations

import builtins
import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from flask_offload.engine_api import (
    Claim,
    Engine,
    Finding,
    Flags,
    Host,
    JobQuery,
    JobRecord,
    JobStatus,
    NewJob,
    QueueInfo,
    ScheduleInfo,
    WorkOptions,
    check_cancel,
    check_retry,
)
from flask_offload.errors import EngineUnavailable, JobNotFound

from .connections import Connections
from .outbox import Outbox
from .producer import KEEP_DONE, Producer
from .records import decode_job, new_record, record
from .scheduler import disable, known_schedules

_engines: weakref.WeakSet[CeleryEngine] = weakref.WeakSet()
_closed: list[Outbox] = []  # while the process forks

EXAMINED = 10_000
"""Jobs that a filtered listing reads at most."""
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
        discards=True,
        unique=True,
        schedules=True,
        isolates=True,
        retention=True,
        steps=True,
        logs=True,
        transactional_batches=True,
        worker_command=True,
        outbox=True,
    )

    def __init__(self, host: Host) -> None:
        self.connections = Connections(host)
        self._clock = host.clock
        self._producer = Producer(self.connections)
        if host.config.outbox:
            path = host.database.with_name(host.database.name + "-outbox")
            durable = host.config.durability == "power"
            self.connections.outbox = Outbox(path, durable=durable, deliver=self._producer.deliver)
        _engines.add(self)

    # --- enqueue ---

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Record the jobs, then send their messages: all or none."""
        self.connections.open()  # raises ConfigError, which is not an outage
        return self._producer.accept(jobs)

    def relay(self, jobs: Sequence[NewJob], deadline: float) -> list[JobRecord]:
        """See InTransaction.relay."""
        self.connections.open()
        return self._producer.relay(jobs, deadline)

    def was_relayed(self, job_id: str) -> bool:
        """See InTransaction.was_relayed."""
        return bool(self._ask("EXISTS", f"relayed:{job_id}"))

    def forget_relayed(self, ids: Sequence[str]) -> None:
        """See InTransaction.forget_relayed."""
        self._ask_all([("EXPIRE", f"relayed:{job_id}", KEEP_DONE) for job_id in ids])

    # --- read ---

    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""
        try:
            return self.connections.bounded(lambda: self.connections.read(job_id))
        except (JobNotFound, EngineUnavailable):
            waiting = self._in_outbox(job_id)
            if waiting is None:
                raise
            return new_record(waiting, now=self._clock())

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """See Engine.step: it is a field of the job's hash."""
        store = self.connections.store
        held, *found = self.connections.bounded(
            lambda: store.run("step", claim.id, claim.attempt, name, value or "")
        )
        return bool(held), found[0] if found else None

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key."""
        job_id = self._ask("GET", f"unique:{key}")
        return None if job_id is None else self.get(job_id)

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs with their attempts, without their results, newest first. A filter reads
        the newest EXAMINED jobs."""
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
            store = self.connections.store
            end = query.offset + max(1, min(query.limit, 1000))
            for start in range(0, EXAMINED, CHUNK):
                ids = store.ask("ZRANGE", index, start, start + CHUNK - 1, "REV")
                if names and ids:
                    rows = store.ask_all([("HMGET", f"job:{one}", *names) for one in ids])
                    found += [one for one, row in zip(ids, rows, strict=True) if row == values]
                else:
                    found += ids
                if len(ids) < CHUNK or len(found) >= end:
                    break
            rows_found = store.read(found[max(0, query.offset) : end])
            now = self._clock()
            return [record(row, tried, None, now=now) for row, tried, _ in rows_found if row]

        return self.connections.bounded(work)

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        waiting = self._in_outbox(job_id)
        if waiting is not None:
            return waiting.args
        body = self._ask("HGET", f"job:{job_id}", "body")
        if body is None:
            raise JobNotFound(f"there is no job {job_id!r}")
        return decode_job(body).args

    def log(self, job_id: str) -> Sequence[tuple[int, str]]:
        """See Engine.log."""
        if self._in_outbox(job_id) is not None:
            return ()
        found = self.connections.store.log(job_id)
        if found is None:
            raise JobNotFound(f"there is no job {job_id!r}")
        return found

    def checkpoint(self, job_id: str) -> str | None:
        """See Engine.checkpoint."""
        cursor: str | None = self._ask("HGET", f"job:{job_id}", "cursor")
        return cursor

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so."""
        limits = (f"[{beginning}", f"({beginning}\xff", "LIMIT", 0, 2)
        found: builtins.list[str] = self._ask("ZRANGEBYLEX", "ids", *limits)
        return found

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        commands = [("ZCARD", f"is:{status}") for status in JobStatus]
        numbers = self._ask_all(commands)
        return dict(zip(JobStatus, numbers, strict=True))

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""
        commands = [("SMEMBERS", "queues"), ("HGETALL", "tally"), ("HGETALL", "paused")]
        names, tally, paused = self._ask_all(commands)
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
        """Every schedule that a worker has ever fired or planned."""
        return self.connections.bounded(lambda: known_schedules(self.connections.store))

    # --- change ---

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """End a waiting job; ask the worker of a running one to stop it."""
        now = self._clock()
        how = 2 if force else 1

        def work() -> JobRecord:
            expires = now + self.connections.host.keep_unsuccessful(
                self.connections.read(job_id).task, JobStatus.CANCELLED
            )
            before = self.connections.store.run("cancel", job_id, how, now, expires)
            if before:
                check_cancel(JobStatus(before), job_id)
            return self.connections.read(job_id)

        with self._outbox_refuses(job_id, "cancelled"):
            return self.connections.bounded(work)

    def retry(self, job_id: str) -> JobRecord:
        """Put a failed or cancelled job back in its queue, with no failures counted."""

        def work() -> JobRecord:
            before = self.connections.store.run("retry", job_id, self._clock(), 1.0)
            if before:
                check_retry(JobStatus(before), job_id)
                self.connections.send_again([job_id])
            return self.connections.read(job_id)

        self.connections.open()
        with self._outbox_refuses(job_id, "retried"):
            return self.connections.deadline.run(work)

    def discard_many(self, ids: Sequence[str]) -> int:
        """Delete those of these jobs that have ended."""
        run = self.connections.store.run
        return int(self.connections.bounded(lambda: run("discard", *ids))) if ids else 0

    def disable_schedule(self, schedule: ScheduleInfo) -> None:
        """Make no more jobs of a schedule. Workers read it at each of its times."""
        now = self._clock()
        self.connections.bounded(lambda: disable(self.connections.store, schedule, now))

    def enable_schedule(self, name: str) -> None:
        """Take back disable_schedule()."""
        now = self._clock()
        self.connections.bounded(lambda: self.connections.store.run("enable", name, now))

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue. Workers drop their messages; the jobs stay READY."""
        now = self._clock()
        self._ask("HSETNX", "paused", queue_name, now)

    def resume(self, queue_name: str) -> None:
        """Start jobs of this queue again. Workers send the messages once more."""
        now = self._clock()
        self.connections.bounded(lambda: self.connections.store.run("resume", queue_name, now))

    def clear(self) -> None:
        """Delete every job and schedule. Messages that are still on their way have no effect."""
        self.connections.bounded(self.connections.store.clear)

    def work(self, options: WorkOptions) -> int:
        """Run a Celery worker until it is asked to stop; the exit code."""
        from .worker import work  # only workers need it

        return work(self.connections, options)

    def findings(self) -> Iterable[Finding]:
        """Whether Redis and the broker can be reached, which workers run, and what is stuck."""
        from .health import findings_of  # only a command needs it

        return findings_of(self.connections)

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._producer.close()
        self.connections.close()

    # --- steps ---

    def _ask(self, command: str, key: str, *values: Any) -> Any:
        return self.connections.bounded(lambda: self.connections.store.ask(command, key, *values))

    def _ask_all(self, commands: Sequence[tuple[Any, ...]]) -> builtins.list[Any]:
        return self.connections.bounded(lambda: self.connections.store.ask_all(commands))

    def _reset_after_fork(self) -> None:
        self.connections.reset_after_fork()
        self._producer.reset_after_fork()

    def _in_outbox(self, job_id: str) -> NewJob | None:
        """A job that waits in the outbox."""
        waiting = None if self.connections.outbox is None else self.connections.outbox.get(job_id)
        if self.connections.outbox is not None and waiting is not None:
            self.connections.outbox.relay()
        return waiting

    @contextmanager
    def _outbox_refuses(self, job_id: str, done: str) -> Iterator[None]:
        try:
            yield
        except (JobNotFound, EngineUnavailable) as error:
            if self._in_outbox(job_id) is None:
                raise
            raise EngineUnavailable(
                f"job {job_id} waits in this machine's outbox until Redis and Celery's broker can"
                f" be reached, and can't be {done} before: try again then"
            ) from error


def _before_fork() -> None:
    for engine in list(_engines):
        if engine.connections.outbox is not None:
            engine.connections.outbox.before_fork()
            _closed.append(engine.connections.outbox)


def _after_fork_in_parent() -> None:
    while _closed:
        _closed.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    _closed.clear()
    for engine in list(_engines):
        engine._reset_after_fork()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
