"""Jobs of SQLAlchemy sessions: held until the transaction in which they were enqueued commits."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from flask import Flask, got_request_exception, has_app_context
from sqlalchemy import MetaData
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from .. import signals
from ..engines.base import Engine as JobEngine
from ..engines.base import Finding
from ..engines.new_rows import is_duplicate
from ..errors import ConfigError, EngineUnavailable, JobNotFound, NotCommitted
from ..jobs import log
from ..jobs.job import COMMIT, Job, JobRecord
from ..jobs.new_job import NewJob
from .held import HELD, HeldJob, HeldJobs, note_failed, watch_sessions
from .outbox import OutboxTable, outbox_table
from .relay import Relay
from .relayed import RELAY_WITHIN
from .writes import has_pending, has_writes, watch

if TYPE_CHECKING:
    from collections.abc import Iterable

TICKS = 65536
"""As in the ids that the stores make, so that all ids sort by age."""


class EnqueuingApp(Protocol):
    """The part of an app's state that is needed here."""

    engine: JobEngine

    @property
    def app(self) -> Flask: ...
    def accepted(self, records: Iterable[JobRecord], new_jobs: Sequence[NewJob]) -> list[Job]: ...
    def discard_files(self, job: NewJob) -> None: ...


class Transactions:
    """Of one app. Offers `get`, `cancel` and `retry` of jobs, as an engine does, and knows those
    that wait for a commit or in the outbox."""

    def __init__(self, state: EnqueuingApp, db: Any, metadata: MetaData | None) -> None:
        """Raises ConfigError."""
        self._state = state
        self._db = db
        self._open: dict[str, JobRecord] = {}
        self._arguments: dict[str, str] = {}  # of the same jobs
        watch()
        watch_sessions()
        _check(db)
        engine = state.engine
        self._needs_outbox = engine.name != "inline" and not self._is_in_configured_database(db)
        self._outbox: OutboxTable | None = None
        self._relay: Relay | None = None
        if self._needs_outbox:
            target = getattr(db, "metadata", None) if metadata is None else metadata
            if target is None:
                raise ConfigError(
                    "db= has no metadata to add the table offload_outbox to: pass that of your"
                    " models too, as init_app(app, db=db, metadata=Model.metadata)"
                )
            self._outbox = OutboxTable(outbox_table(target))
            self._relay = Relay(engine, self._outbox)
        got_request_exception.connect(note_failed, state.app)
        signals.worker_started.connect(self._worker_started, state.app)
        signals.worker_stopped.connect(self._worker_stopped, state.app)

    def _is_in_configured_database(self, db: Any) -> bool:
        from sqlalchemy import make_url

        config = self._state.app.config
        engines = config.get("SQLALCHEMY_ENGINES") or {}
        url = config.get("SQLALCHEMY_DATABASE_URI") or engines.get("default")
        if isinstance(url, dict):
            url = url.get("url")
        if url is None and isinstance(db, scoped_session):
            with contextlib.suppress(SQLAlchemyError):
                url = db.get_bind().engine.url
        return url is not None and self._state.engine.is_in(make_url(url))

    # --- enqueue ---

    def has_part_in(self, after_commit: bool | None) -> bool:
        """Whether a job that is enqueued now belongs to the session's transaction."""
        if after_commit is not None:
            return after_commit
        session = current_session(self._db)
        return session is not None and is_writing(session)

    def joined_session(self, after_commit: bool | None) -> Session | None:
        """The session of which a job that is enqueued now will be a part; None: of none."""
        return current_session(self._db, create=True) if self.has_part_in(after_commit) else None

    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Add jobs to the session's transaction. Raises EngineUnavailable, and SQLAlchemy's errors
        as any statement of that transaction does."""
        session = current_session(self._db, create=True)
        assert session is not None
        bind = session.get_bind()
        way = self._way(bind)
        if way == "join":
            self._state.engine.prepare_join(jobs)
            records = self._state.engine.join(session.connection(), jobs)
        else:
            found = [self._existing(job) for job in jobs]
            jobs = [
                job if old is not None else _with_id(job)
                for job, old in zip(jobs, found, strict=True)
            ]
            new = [job for job, old in zip(jobs, found, strict=True) if old is None]
            if way == "outbox" and new:
                assert self._outbox is not None
                self._outbox.add(session.connection(), new)
            records = [old or job.record() for job, old in zip(jobs, found, strict=True)]
        return self._hold(session, jobs, records, way, bind.engine)

    def _way(self, bind: Engine | Connection) -> str:
        engine = bind.engine
        if self._outbox is None:
            return "join" if self._state.engine.name != "inline" else "memory"
        if isinstance(engine.pool, StaticPool | SingletonThreadPool):
            return "memory"  # a database in memory: it outlives no process, and has one connection
        if isinstance(bind, Connection) and self._state.app.testing:
            return "memory"  # a test that rolls everything back
        return "outbox"

    def _existing(self, job: NewJob) -> JobRecord | None:
        """The job that holds the unique key; if it can't be asked for, the relay finds it."""
        engine = self._state.engine
        if job.unique_key is None or not engine.flags.unique:
            return None
        try:
            found = engine.find_unique(job.unique_key)
        except EngineUnavailable:
            return None
        if found is None or not is_duplicate(job, found, job.enqueued_at):
            return None
        found.is_duplicate = True
        return found

    def _hold(
        self,
        session: Session,
        jobs: Sequence[NewJob],
        records: Sequence[JobRecord],
        way: str,
        database: Engine,
    ) -> list[JobRecord]:
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction is None:
            transaction = session.begin()
        held: HeldJobs = session.info.setdefault(HELD, HeldJobs())
        found = held.jobs.setdefault(transaction, [])
        shown = []
        for job, record in zip(jobs, records, strict=True):
            if not record.is_duplicate:
                waiting = msgspec.structs.replace(record, waiting_for=COMMIT)
                found.append(HeldJob(self, job, record, way, database))
                self._open[record.id] = waiting
                self._arguments[record.id] = job.args
                shown.append(waiting)
            else:
                self._state.discard_files(job)
                shown.append(record)
        return shown

    # --- the end of a transaction ---

    def committed(self, held: Sequence[HeldJob]) -> None:
        """The transaction of these jobs was committed."""
        for one in held:
            self._forget(one.record.id)
        in_memory = [one.job for one in held if one.way == "memory"]
        if in_memory:
            records = self._state.engine.relay(in_memory, time.monotonic() + RELAY_WITHIN)
            self._state.accepted(records, in_memory)
        for database in dict.fromkeys(one.database for one in held if one.way == "outbox"):
            ids = [one.job.id for one in held if (one.way, one.database) == ("outbox", database)]
            self._relay_soon(database, ids)
        stored = [one for one in held if one.way != "memory"]
        self._state.accepted([one.record for one in stored], [one.job for one in stored])

    def _relay_soon(self, database: Engine, ids: Sequence[str]) -> None:
        assert self._relay is not None
        if self._state.app.testing:  # so that the test finds them
            try:
                for start in range(0, len(ids), 100):
                    self._relay.relay(database, ids=ids[start : start + 100])
                return
            except (EngineUnavailable, SQLAlchemyError):
                pass
        self._relay.submit(database, ids)

    def rolled_back(self, held: Sequence[HeldJob], *, is_reported: bool, is_certain: bool) -> None:
        """The transaction of these jobs was not committed. is_certain: False if COMMIT failed, as
        its answer may have been lost; then a worker deletes the files of jobs that do not exist."""
        for one in held:
            self._forget(one.record.id)
            if is_certain:
                self._state.discard_files(one.job)
            if is_reported:
                message = (
                    "job %s (%s) was discarded: its session was closed, and its transaction neither"
                    " committed nor rolled back. Call db.session.commit() after the enqueue, or"
                    " use using(after_commit=False)"
                )
                log.write(
                    logging.WARNING,
                    "transaction_not_committed",
                    message,
                    one.record.id,
                    one.job.task,
                )

    def _forget(self, job_id: str) -> None:
        self._open.pop(job_id, None)
        self._arguments.pop(job_id, None)

    # --- jobs, as an engine has them ---

    def get(self, job_id: str) -> JobRecord:
        """One job, also one that waits for its commit or in the outbox. Raises JobNotFound."""
        waiting = self._open.get(job_id)
        if waiting is not None:
            return waiting
        try:
            return self._state.engine.get(job_id)
        except JobNotFound:
            found = self._in_outbox(job_id)
            if found is not None:
                return found.record()
            if self._outbox is None:
                raise
            return self._state.engine.get(job_id)  # it may have been relayed in between

    def _in_outbox(self, job_id: str) -> NewJob | None:
        """A committed job that was not relayed yet; a row may stay for some time after that."""
        if self._outbox is None or not has_app_context():
            return None
        try:
            found = self._outbox.find(self._database(), job_id)
        except SQLAlchemyError:
            return None
        return found if found is not None and not self._state.engine.was_relayed(job_id) else None

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        held = self._arguments.get(job_id)
        if held is not None:
            return held
        try:
            return self._state.engine.arguments(job_id)
        except JobNotFound:
            found = self._in_outbox(job_id)
            return found.args if found is not None else self._state.engine.arguments(job_id)

    def log(self, job_id: str) -> Sequence[tuple[int, str]]:
        """See Engine.log."""
        if job_id in self._open:
            return ()
        try:
            return self._state.engine.log(job_id)
        except JobNotFound:
            if self._in_outbox(job_id) is None:
                raise
            return ()

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """See Job.cancel. Raises NotCommitted before the commit."""
        self._check_committed(job_id, "cancelled")
        return self._state.engine.cancel(job_id, force=force)

    def retry(self, job_id: str) -> JobRecord:
        """See Job.retry. Raises NotCommitted before the commit."""
        self._check_committed(job_id, "retried")
        return self._state.engine.retry(job_id)

    def _check_committed(self, job_id: str, done: str) -> None:
        if job_id in self._open:
            raise NotCommitted(
                f"job {job_id} waits for the commit of the transaction in which it was enqueued,"
                f" and can't be {done} before: roll back, or commit first"
            )
        deadline = time.monotonic() + 1.0
        while self._in_outbox(job_id) is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # it is about to be relayed

    # --- what a crash left ---

    def _database(self) -> Engine:
        session = current_session(self._db, create=True)
        assert session is not None
        return session.get_bind().engine

    def _database_of_app(self) -> Engine:
        with self._state.app.app_context():
            return self._database()

    def _worker_started(self, sender: Any, **_: Any) -> None:
        if self._relay is not None:
            self._relay.sweep(self._database_of_app)

    def _worker_stopped(self, sender: Any, **_: Any) -> None:
        if self._relay is not None:
            self._relay.stop()

    def findings(self) -> Iterator[Finding]:
        """What `flask offload check` says of the outbox."""
        if self._outbox is None:
            yield Finding("transactions", "ok", "jobs belong to the transactions of db")
            return
        try:
            with self._state.app.app_context():
                database = self._database()
                if self._outbox.is_missing(database):
                    message = (
                        "the app's database has no table offload_outbox: run `flask db migrate` and"
                        " `flask db upgrade`, or db.create_all()"
                    )
                    yield Finding("transactions", "problem", message)
                    return
                count, since = self._outbox.waiting(database)
        except SQLAlchemyError as error:
            yield Finding("transactions", "problem", f"the app's database can't be read: {error}")
            return
        age = 0.0 if since is None else time.time() - since
        message = f"{count} committed jobs are in offload_outbox"
        if age > 60:
            message += f", the oldest for {age:.0f} s: start a worker, which relays them"
        yield Finding("transactions", "problem" if age > 60 else "ok", message)


def _with_id(job: NewJob) -> NewJob:
    """A job whose id sorts among those that the stores make."""
    return msgspec.structs.replace(job, id=f"{int(time.time() * TICKS):012x}{job.id[-32:]}")


# --- sessions ---


def _check(db: Any) -> None:
    """Raise ConfigError unless this is a database whose current session can be found."""
    if isinstance(db, scoped_session) or hasattr(type(db), "session") or hasattr(db, "session"):
        return
    raise ConfigError(
        f"db= takes Flask-SQLAlchemy, Flask-SQLAlchemy-Lite or a scoped_session, not"
        f" {type(db).__name__}: for a sessionmaker, pass scoped_session(sessionmaker)"
    )


def current_session(db: Any, *, create: bool = False) -> Session | None:
    """The session of this thread or request; None if there is none yet."""
    session = db if isinstance(db, scoped_session) else db.session
    if isinstance(session, scoped_session):
        if not create and not session.registry.has():
            return None
        session = session()
    assert isinstance(session, Session)
    return session


def is_writing(session: Session) -> bool:
    """Whether its transaction on the default bind has written, or will at the next flush."""
    if not session.in_transaction():
        return False
    bind = session.get_bind()
    if has_pending(session, bind.engine):
        return True
    if not session.is_active:
        return False
    return has_writes(session.connection())
