"""What every part of the Celery engine works with: the jobs' records, and their messages."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from celery import Celery

from flask_offload.engines.host import Host
from flask_offload.errors import EngineUnavailable, JobNotFound
from flask_offload.jobs.job import JobRecord, JobStatus
from flask_offload.jobs.new_job import NewJob

from .broker import Broker
from .deadline import Deadline
from .outbox import Outbox
from .records import decode_job, draft, record
from .redis_store import Draft, Ledger
from .setup import celery_of, check_setup, records_url, settle

T = TypeVar("T")


class Office:
    """Connects at the first use, when the app is complete; after close(), at the next.

    host: the app. outbox: if the app has one, set by the engine. deadline: bounds what a caller
    waits for records and messages. Raises ConfigError when the app's Celery can't be found.
    """

    def __init__(self, host: Host) -> None:
        check_setup(host.app, host.config.celery_records)
        self.host = host
        self.outbox: Outbox | None = None
        timeout = host.config.enqueue_timeout
        self.deadline = Deadline(timeout, "Redis or Celery's broker")
        # of its own, so that a broker that hangs hides nobody's status
        self._records_deadline = Deadline(timeout, "Redis, which keeps the jobs' records,")
        self.forget_parent()

    def forget_parent(self) -> None:
        """At first, and in a forked child, which shares no connection with its parent."""
        self._lock = threading.Lock()
        self._ready: tuple[Celery, Ledger, Broker] | None = None

    # --- the parts ---

    @property
    def celery(self) -> Celery:
        """The app's Celery."""
        return self.open()[0]

    @property
    def ledger(self) -> Ledger:
        """The jobs' records."""
        return self.open()[1]

    @property
    def broker(self) -> Broker:
        """The way to the workers."""
        return self.open()[2]

    def open(self) -> tuple[Celery, Ledger, Broker]:
        """Make the parts, unless they are made. Raises ConfigError, as a mistake is no outage."""
        with self._lock:
            if self._ready is None:
                config = self.host.config
                celery = celery_of(self.host.app)
                settle(celery)
                timeout = config.enqueue_timeout
                conf = celery.conf
                url = records_url(conf.broker_url, conf.result_backend, config.celery_records)
                ledger = Ledger(url, config.celery_prefix, timeout)
                self._ready = celery, ledger, Broker(celery, timeout)
            return self._ready

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        if self._ready is not None:
            self.ledger.close()
            self.broker.close()

    # --- records ---

    def bounded(self, work: Callable[[], T]) -> T:
        """What the records answer, within OFFLOAD_ENQUEUE_TIMEOUT."""
        self.open()
        return self._records_deadline.run(lambda _: work())

    def read(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result, however long that takes. Raises JobNotFound."""
        (fields, attempts, result), *_ = self.ledger.read([job_id])
        if not fields:
            raise JobNotFound(
                f"there is no job {job_id!r}: it never existed, or its retention time is over"
            )
        return record(fields, attempts, result, now=self.host.clock())

    def draft(self, job: NewJob, *, seq: int = 0) -> Draft:
        """A job as the ledger's scripts get it. seq: its number in an outbox."""
        return draft(job, keep=self.host.keep_unsuccessful(job.task, JobStatus.CANCELLED), seq=seq)

    # --- messages ---

    def send(self, jobs: Sequence[NewJob], task: str | None = None) -> bool:
        """Send messages; whether that worked. Those that can't be sent now are left to workers.

        task: the name under which Celery knows who can run them; each job's own task.
        """
        done = 0
        try:
            for job in jobs:
                self.broker.send(job, task=task)
                done += 1
        except EngineUnavailable:
            now = self.host.clock()
            self._leave_to_workers([("ZADD", "unsent", "XX", now, job.id) for job in jobs[done:]])
        self.note_sent(jobs[:done])
        return done == len(jobs)

    def send_again(self, ids: Sequence[str], task: str | None = None) -> None:
        """Send the messages of jobs that are READY once more. For callers that may wait."""
        self.send([decode_job(body) for body in self.ledger.waiting(ids)], task)

    def note_sent(self, jobs: Sequence[NewJob]) -> None:
        """Should that fail, messages are sent twice, to no effect."""
        if jobs:
            with contextlib.suppress(EngineUnavailable):
                self.ledger.ask("ZREM", "unsent", *(job.id for job in jobs))

    def _leave_to_workers(self, commands: Sequence[tuple[Any, ...]]) -> None:
        with contextlib.suppress(EngineUnavailable):
            self.ledger.ask_all(commands)
