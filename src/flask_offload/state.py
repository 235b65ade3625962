"""The state of one app: its settings, engine, spool and keeper; and the apps of an Offload."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from flask import Flask, current_app

from . import mail, signals
from .admin.engines import make_engine
from .config import Config
from .engines.base import Engine, JobQuery
from .engines.host import Host
from .errors import JobNotFound, NotInitialized, OptionError, PayloadError
from .feature_checks import check_schedule, check_settings, check_task, check_using, require_flag
from .jobs import log
from .jobs.job import Job, JobEngine, JobList, JobRecord, JobStatus
from .jobs.new_job import NewJob
from .payload.codecs.rows import JOINED
from .payload.spool import Spool
from .payload.tracing import note_job, producer_span
from .profiler.install import ProfilerSettings
from .profiler.timing import note_enqueue
from .tasks.registry import Registry
from .tasks.schedule import Schedule
from .tasks.task import Task, TaskCall
from .transactions.unguarded import UnguardedSessions
from .worker.keeper import Keeper

if TYPE_CHECKING:
    from .transactions.sessions import Transactions

SEARCHED = 20_000
"""Jobs that one call of `offload.jobs` looks at."""


class AppState(Host):
    """The state of an Offload for one app."""

    def __init__(
        self, app: Flask, registry: Registry, config: Config, db: Any = None, metadata: Any = None
    ) -> None:
        super().__init__(app, registry, config)
        self.engine: Engine = make_engine(self)
        check_settings(self.engine, config)
        for task in registry.tasks.values():
            check_task(self.engine, task)
        for name in registry.schedules:
            check_schedule(self.engine, name)
        if self.engine.flags.files:
            self.spool: Spool | None = Spool(
                self.database.with_name(self.database.name + "-files"),
                max_file=config.max_file,
                max_total=config.max_spool,
                durable=config.durability == "power",
            )
        self.keeper: Keeper | None = Keeper(self) if self.engine.flags.own_worker else None
        if self.keeper is not None:
            self.keeper.start_with_server()
        self._is_in_use = False
        self.transactions: Transactions | None = None
        self.jobs: JobEngine = self.engine
        """What jobs ask: the engine, or the transactions before it."""
        if db is not None:
            from .transactions.sessions import Transactions  # needs SQLAlchemy

            self.jobs = self.transactions = Transactions(self, db, metadata)
        self.unguarded: UnguardedSessions | None = UnguardedSessions(app) if db is None else None

    def new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob:
        """The job of one call, not enqueued. Raises PayloadError and UnsupportedByEngine."""
        check_using(self.engine, task)
        if self.transactions is None:
            return self._new_job(task, args, kwargs)
        token = JOINED.set(self.transactions.joined_session(task.overrides.after_commit))
        try:
            return self._new_job(task, args, kwargs)
        finally:
            JOINED.reset(token)

    def _new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob:
        limit = self.config.max_payload
        return task.new_job(args, kwargs, limit=limit, spool=self.spool, now=self.clock())

    def enqueue(self, new_jobs: Sequence[NewJob], after_commit: bool | None = None) -> list[Job]:
        """Enqueue all of them, or none. after_commit: as in `using`. Raises EngineUnavailable, and
        RuntimeError in a test that has no database of its own."""
        self.check_test_database()
        try:
            if self.transactions is not None and self.transactions.has_part_in(after_commit):
                return [self.job(one) for one in self.transactions.enqueue(new_jobs)]
            if self.transactions is None and after_commit:
                raise OptionError(
                    "using(after_commit=True) needs the database: write Offload(app, db=db)"
                )
            if self.unguarded is not None and after_commit is None:
                self.unguarded.check(self.app)
            records = self.engine.enqueue(new_jobs) if new_jobs else []
        except BaseException:
            for job in new_jobs:
                self.discard_files(job)
            raise
        return self.accepted(records, new_jobs)

    def accepted(self, records: Iterable[JobRecord], new_jobs: Sequence[NewJob]) -> list[Job]:
        """Jobs of the enqueued records; starts the keeper and sends the signals."""
        self._start()
        jobs = [self.job(record) for record in records]
        has_receivers = log.has_receivers(signals.enqueued, logging.DEBUG)
        for job, new_job in zip(jobs, new_jobs, strict=True):
            if job.is_duplicate:
                self.discard_files(new_job)
            elif has_receivers:
                signals.send(signals.enqueued, self.app, job=job)
        return jobs

    def job(self, record: JobRecord, *, is_listed: bool = False) -> Job:
        """The job of this record. is_listed: it came in a list, without its result."""
        return Job(record, self.jobs, self.registry.codecs, self.spool, is_listed=is_listed)

    def discard_files(self, job: NewJob) -> None:
        """Remove the spooled files of a call that did not become a job."""
        if job.files and self.spool is not None:
            self.spool.remove(job.files)

    def on_request(self) -> None:
        """Before each request: a web process starts its keeper."""
        self._start()

    def _start(self) -> None:
        if self.keeper is not None:
            self.keeper.start()
        if not self._is_in_use:
            self._is_in_use = True
            for key in self.config.changed_keys(self.app):
                message = "%s was set after init_app, and has no effect: set it before"
                log.write(logging.WARNING, "setting_ignored", message, key)

    def profiler_settings(self) -> ProfilerSettings:
        """The part of the settings that the profiler needs."""
        config = self.config
        return ProfilerSettings(
            server_timing=config.server_timing,  # None: decided at the first request
            spot=config.spot,
            spot_above_ms=config.spot_above,
            store_path=self.database.with_name(self.database.name + "-evidence.sqlite3"),
        )


class AppRegistry(Registry):
    """A registry with its apps; it enqueues in the current one."""

    def __init__(self) -> None:
        super().__init__()
        self.built_in[mail.SEND_MAIL] = Task(self, mail.send, mail.SEND_MAIL, mail.PATIENT)
        self.states: WeakKeyDictionary[Flask, AppState] = WeakKeyDictionary()

    def state_of(self, app: Flask) -> AppState:
        """The state of this app. Raises NotInitialized."""
        state = self.states.get(app)
        if state is None:
            raise NotInitialized(
                f"the app {app.name!r} has no Flask-Offload: call offload.init_app(app) where the"
                " app is created"
            )
        return state

    def current_state(self) -> AppState:
        """The state of the current app. Raises NotInitialized."""
        try:
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        except RuntimeError:
            raise NotInitialized(
                "there is no application context: enqueue while a request is handled, in a command"
                " of the app, or inside of `with app.app_context():`"
            ) from None
        return self.state_of(app)

    @property
    def engine(self) -> Engine:
        """The current app's engine."""
        return self.current_state().engine

    def enqueue_call(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        """Enqueue one call in the current app."""
        began = time.perf_counter()
        state = self.current_state()
        with producer_span(task.name, _queue_of(task), "send"):
            new_job = state.new_job(task, args, kwargs)
            (job,) = state.enqueue((new_job,), task.overrides.after_commit)
            note_job(job.id)
        note_enqueue(time.perf_counter() - began)
        return job

    def new_job(
        self, task: Task[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> NewJob:
        """The job of one call in the current app, not enqueued yet."""
        with producer_span(task.name, _queue_of(task), "create"):
            return self.current_state().new_job(task, args, kwargs)

    def check_task(self, task: Task[Any, Any]) -> None:
        """Raise UnsupportedByEngine if an app's engine does not support one of the task's
        options."""
        for state in self.states.values():
            check_task(state.engine, task)

    def check_schedule(self, schedule: Schedule) -> None:
        """The same for a schedule."""
        for state in self.states.values():
            check_schedule(state.engine, schedule.name)

    def enqueue(self, *_: object, **__: object) -> NoReturn:
        """RQ's method. Raises OptionError."""
        raise OptionError(
            "an Offload has no enqueue: decorate the function with @offload.task, and write"
            " function.enqueue(…); or offload.task(function).enqueue(…) for one of another package."
        )

    def enqueue_many(self, calls: Iterable[TaskCall]) -> list[Job]:
        """Enqueue calls made with `task.call(…)` in one transaction.

        Raises PayloadError for anything else than a call, EngineUnavailable, and
        UnsupportedByEngine where the engine has no such transactions.
        """
        began = time.perf_counter()
        state = self.current_state()
        calls = list(calls)
        new_jobs = [_new_job(call) for call in calls]
        wishes = {call.task.overrides.after_commit for call in calls}
        if len(wishes) > 1:
            raise OptionError("enqueue_many() takes calls that agree in using(after_commit=…)")
        after_commit = wishes.pop() if wishes else None
        if len(new_jobs) > 1:
            require_flag(
                state.engine, "transactional_batches", "enqueue_many() of more than one call"
            )
        jobs = state.enqueue(new_jobs, after_commit)
        note_enqueue(time.perf_counter() - began)
        return jobs

    def send_mail(self, message: Any, **options: Any) -> Job:
        """Send a `flask_mail.Message` or a `flask_mailman.EmailMessage` in a job.

        It is patient: 12 attempts within hours, but what the mail server refuses for good fails at
        once. Every attempt has the same Message-ID. Attachments are files beside the job where the
        engine has the flag `files`; else they count toward OFFLOAD_MAX_PAYLOAD.
        options: those of `task.using`. Raises as `task.enqueue`.
        """
        task = self.built_in[mail.SEND_MAIL]
        return (task.using(**options) if options else task).enqueue(*mail.packed(message))

    def alert_setting(self) -> Any:
        """The current app's OFFLOAD_ALERT."""
        return self.current_state().config.alert

    def get_job(self, job_id: str) -> Job:
        """The job with this id. Raises JobNotFound."""
        state = self.current_state()
        if not isinstance(job_id, str):  # such as None, from a request that names none
            raise JobNotFound(f"there is no job {job_id!r}: an id is a text, see job.id")
        return state.job(state.jobs.get(job_id))

    def find_unique(self, key: str) -> Job | None:
        """The job that holds a unique key."""
        state = self.current_state()
        require_flag(state.engine, "unique", "find()")
        record = state.engine.find_unique(key)
        return None if record is None else state.job(record)

    def jobs(
        self,
        *,
        status: JobStatus | str | None = None,
        task: str | Task[Any, Any] | None = None,
        queue_name: str | None = None,
        owner: str | None = None,
        text: str | None = None,
        limit: int = 50,
        before: str | Job | None = None,
    ) -> JobList:
        """The current app's jobs, the newest first.

        status, task, queue_name, owner: only such jobs. text: in the arguments, an error or the
        progress message, whatever the case. limit: 1 to 1000. before: only jobs that were enqueued
        before this one (a job or its id), or `next` of an earlier list, so that pages don't move
        while new jobs come.

        A call looks at SEARCHED jobs at most (with owner=: at as many of the owner's), so a list
        may be shorter than `limit` though there are more: then `next` goes on. Raises ValueError,
        and UnsupportedByEngine for engines that list no jobs.
        """
        state = self.current_state()
        require_flag(state.engine, "lists", "offload.jobs()")
        if not 1 <= limit <= 1000:
            raise ValueError(f"limit={limit!r}: give a number from 1 to 1000")
        query = JobQuery(
            status=None if status is None else JobStatus(status),
            task=task.name if isinstance(task, Task) else task,
            queue_name=queue_name,
            owner=owner,
            text=text,
            limit=limit,
            after=before.id if isinstance(before, Job) else before,
        )
        page = state.engine.page(query, SEARCHED)
        found = (state.job(record, is_listed=True) for record in page.jobs)
        return JobList(found, page.next)

    def count(self) -> dict[JobStatus, int]:
        """How many jobs of the current app have each status. Raises UnsupportedByEngine."""
        engine = self.engine
        require_flag(engine, "lists", "offload.count()")
        return engine.count()


def state_of(app: Flask) -> AppState:
    """The state of this app, whichever Offload it has. Raises NotInitialized."""
    registry: AppRegistry | None = app.extensions.get("offload")
    if registry is None:
        raise NotInitialized
    return registry.state_of(app)


def _new_job(call: object) -> NewJob:
    if not isinstance(call, TaskCall):
        raise PayloadError(
            f"enqueue_many takes calls, not {type(call).__name__}: write"
            " offload.enqueue_many([task.call(…), …])"
        )
    return call.new_job


def _queue_of(task: Task[Any, Any]) -> str:
    return task.overrides.queue_name or task.options.queue_name
