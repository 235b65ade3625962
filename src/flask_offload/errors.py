"""Every error that Flask-Offload raises on purpose, as one tree.

A class's docstring is its default message: what happened, and what to do about it.
"""

from __future__ import annotations

import inspect
from datetime import timedelta


class OffloadError(Exception):
    """Flask-Offload could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join(inspect.getdoc(type(self)).split()))  # type: ignore[union-attr]


# --- set-up ------------------------------------------------------------------------------------


class ConfigError(OffloadError):
    """A configuration value can't be used: see the list of OFFLOAD_* keys in the documentation."""


class OptionError(ConfigError):
    """An option of a task or a schedule can't be used: the message says which, and what can."""


class NotInitialized(OffloadError):
    """This app has no Flask-Offload: call offload.init_app(app) once, where the app is created."""


class UnknownTask(OffloadError):
    """No task of that name is registered: import the module that declares it before it is used."""


class UnsupportedByEngine(OffloadError):
    """The engine can't do this: choose another OFFLOAD_ENGINE, or leave the option out."""


# --- payload -----------------------------------------------------------------------------------


class PayloadError(OffloadError):
    """The arguments or the result can't be encoded, or don't fit the task's signature."""


class PayloadTooLarge(PayloadError):
    """The arguments are larger than OFFLOAD_MAX_PAYLOAD: pass an id or a file instead."""


class RowGone(PayloadError):
    """The database row that an argument refers to no longer exists: it was deleted meanwhile."""


class FileGone(PayloadError):
    """The uploaded file that an argument refers to is no longer in the spool."""


class FileTooLarge(PayloadTooLarge):
    """The uploaded file is larger than OFFLOAD_MAX_FILE: raise it, or store the file yourself."""


# --- jobs --------------------------------------------------------------------------------------


class JobNotFound(OffloadError):
    """There is no job with this id: it never existed, or its retention time is over."""


class NotCommitted(OffloadError):
    """The job waits for the commit of the transaction in which it was enqueued: commit first."""


class InvalidTransition(OffloadError):
    """The job's status does not allow this: look at job.status first."""


class JobFailed(OffloadError):
    """The job did not succeed: job.error says why."""


# --- inside a task -----------------------------------------------------------------------------


class NoCurrentJob(OffloadError, RuntimeError):
    """There is no current job here: current_job works only inside a task that a worker runs. For
    code that is also called directly, test `if current_job:` first."""


class JobTimeout(OffloadError):
    """The job has run longer than its timeout: finish quickly, or let this error pass."""


class WaitTimeout(JobTimeout, TimeoutError):
    """The job has not finished within the timeout of wait(): it goes on regardless."""


class JobCancelled(OffloadError):
    """The job was asked to stop: clean up, and let this error pass."""


class JobExpired(JobCancelled):
    """The job was not started within its `expires=`, and was discarded."""


class StepTooLarge(PayloadTooLarge):
    """The result of current_job.once() is too large: return an id, and keep the data elsewhere."""


class Retry(OffloadError):
    """Raise it inside a task to run the job again, after `after` seconds.

    after: seconds or a timedelta to wait; None uses the task's backoff.
    """

    def __init__(
        self, message: str | None = None, *, after: float | timedelta | None = None
    ) -> None:
        super().__init__(message or "the task asked for another attempt")
        self.after = after


class Discard(OffloadError):
    """Raise it inside a task to end the job CANCELLED, with the reason as its error."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or "the task discarded the job")


# --- engines -----------------------------------------------------------------------------------


class EngineUnavailable(OffloadError):
    """The engine that keeps the jobs can't be reached; nothing was enqueued. Try again later."""


class OutboxMissing(EngineUnavailable):
    """The app's database has no table offload_outbox: create it with db.create_all() or a migration
    (flask db migrate, flask db upgrade)."""


class DatabaseLocked(EngineUnavailable):
    """Another program holds the job database locked: end it, or wait until it releases the lock."""


class ForeignFolder(EngineUnavailable, PermissionError):
    """A folder beside the job database is not this user's alone: run as its owner, or chmod 700."""


class DatabaseFull(EngineUnavailable):
    """The disk that holds the job database is full: free some space."""


class DatabaseReadOnly(EngineUnavailable):
    """The job database can't be written: correct the permissions of the file and of its folder."""


class DatabaseGone(EngineUnavailable):
    """The job database was deleted or replaced while it was in use."""


class DatabaseCorrupt(EngineUnavailable):
    """The file is not a usable job database: restore a backup, or move it away to start with a new
    one."""


class DatabaseTooNew(EngineUnavailable):
    """A newer Flask-Offload has changed the job database in a way that this one can't read:
    upgrade this installation."""


class DiskError(EngineUnavailable):
    """The disk under the job database reports errors: look at the system's log."""


class TooManyFiles(EngineUnavailable):
    """This process has too many files open to open the job database: raise its limit."""


class NetworkFilesystem(EngineUnavailable):
    """The job database is on a network file system, where SQLite's locks can't be trusted:
    set OFFLOAD_SQLITE_PATH to a local disk."""


class SpoolFull(EngineUnavailable):
    """The uploaded files of waiting jobs fill OFFLOAD_MAX_SPOOL: answer 503, or raise it."""
