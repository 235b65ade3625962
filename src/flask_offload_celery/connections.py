"""The app's connections to Redis and to Celery's broker, and what every part does with them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from celery import Celery

from flask_offload.engine_api import Host, JobRecord, JobStatus, NewJob
from flask_offload.errors import EngineUnavailable, JobNotFound

from .broker import Broker
from .deadline import Deadline
from .outbox import Outbox
from .records import decode_job, draft, record
from .redis_store import Draft, RedisStore
from .setup import celery_of, check_setup, configure, records_url

T = TypeVar("T")


class Connections:
    """Opened at the first use, when the app is complete; after close(), at the next.

    outbox: None unless OFFLOAD_OUTBOX is set. deadline: for calls that need the broker, too.
    Raises ConfigError when the app's Celery can't be found.
    """

    def __init__(self, host: Host) -> None:
        check_setup(host.app, host.config.celery_records)
        self.host = host
        self.outbox: Outbox | None = None
        timeout = host.config.enqueue_timeout
        self.deadline = Deadline(timeout, "Redis or Celery's broker")
        # a second one, so that jobs can be read while the broker hangs
        self._records_deadline = Deadline(timeout, "Redis, which keeps the jobs' records,")
        self._lock = threading.Lock()
        self._opened: tuple[Celery, RedisStore, Broker] | None = None

    def reset_after_fork(self) -> None:
        """A forked child uses no connection and no thread of its parent."""
        self._lock = threading.Lock()
        self._opened = None
        self.deadline.reset_after_fork()
        self._records_deadline.reset_after_fork()

    # --- the parts ---

    @property
    def celery(self) -> Celery:
        """The app's Celery."""
        return self.open()[0]

    @property
    def store(self) -> RedisStore:
        """The jobs' records."""
        return self.open()[1]

    @property
    def broker(self) -> Broker:
        """The messages to workers."""
        return self.open()[2]

    def open(self) -> tuple[Celery, RedisStore, Broker]:
        """Open all three unless they are open. Raises ConfigError: a mistake is not an outage."""
        with self._lock:
            if self._opened is None:
                config = self.host.config
                celery = celery_of(self.host.app)
                configure(celery)
                timeout = config.enqueue_timeout
                conf = celery.conf
                url = records_url(conf.broker_url, conf.result_backend, config.celery_records)
                store = RedisStore(url, config.celery_prefix, timeout)
                self._opened = celery, store, Broker(celery, timeout)
            return self._opened

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self.deadline.close()
        self._records_deadline.close()
        if self._opened is not None:
            self.store.close()
            self.broker.close()

    # --- records ---

    def bounded(self, work: Callable[[], T]) -> T:
        """The result of work that needs Redis only, within OFFLOAD_ENQUEUE_TIMEOUT."""
        self.open()
        return self._records_deadline.run(work)

    def read(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result; not bounded. Raises JobNotFound."""
        (fields, attempts, result), *_ = self.store.read([job_id])
        if not fields:
            raise JobNotFound(
                f"there is no job {job_id!r}: it never existed, or its retention time is over"
            )
        return record(fields, attempts, result, now=self.host.clock())

    def draft(self, job: NewJob, *, seq: int = 0, note: int = 0) -> Draft:
        """A job as the store's scripts take it. seq, note: see records.draft()."""
        keep = self.host.keep_unsuccessful(job.task, JobStatus.CANCELLED)
        return draft(job, keep=keep, seq=seq, note=note)

    # --- messages ---

    def send(self, jobs: Sequence[NewJob]) -> bool:
        """Send messages; False if some could not be sent: workers then send those."""
        done = 0
        try:
            for job in jobs:
                self.broker.send(job)
                done += 1
        except EngineUnavailable:
            now = self.host.clock()
            self._leave_to_workers([("ZADD", "unsent", "XX", now, job.id) for job in jobs[done:]])
        self.note_sent(jobs[:done])
        return done == len(jobs)

    def send_again(self, ids: Sequence[str]) -> bool:
        """The same for those of these jobs that are READY; not bounded."""
        return self.send([decode_job(body) for body in self.store.waiting(ids)])

    def note_sent(self, jobs: Sequence[NewJob]) -> None:
        """Record that messages were sent. If that fails, they are sent twice, to no effect."""
        if jobs:
            with contextlib.suppress(EngineUnavailable):
                self.store.ask("ZREM", "unsent", *(job.id for job in jobs))

    def _leave_to_workers(self, commands: Sequence[tuple[Any, ...]]) -> None:
        with contextlib.suppress(EngineUnavailable):
            self.store.ask_all(commands)
