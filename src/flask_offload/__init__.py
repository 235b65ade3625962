"""Flask-Offload: move slow work out of Flask requests, and prove that it helped."""

from .engines.base import Finding
from .errors import (
    ConfigError,
    DatabaseCorrupt,
    DatabaseFull,
    DatabaseGone,
    DatabaseLocked,
    DatabaseReadOnly,
    DatabaseTooNew,
    Discard,
    EngineUnavailable,
    InvalidTransition,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimeout,
    NetworkFilesystem,
    NoCurrentJob,
    NotCommitted,
    NotInitialized,
    OffloadError,
    OptionError,
    OutboxMissing,
    PayloadError,
    PayloadTooLarge,
    Retry,
    RowGone,
    StepTooLarge,
    UnknownTask,
    UnsupportedByEngine,
    WaitTimeout,
)
from .extension import Offload
from .jobs import log as _log  # connects its receivers  # noqa: F401
from .jobs.alert import Alert
from .jobs.context import current_job
from .jobs.job import Attempt, Error, Job, JobList, JobStatus, Progress
from .jobs.log_line import LogLine
from .jobs.options import EnqueuedBy
from .jobs.rate import Rate
from .tasks.options import from_config
from .tasks.retry import exponential
from .tasks.task import Task

__all__ = [
    "Alert",
    "Attempt",
    "ConfigError",
    "DatabaseCorrupt",
    "DatabaseFull",
    "DatabaseGone",
    "DatabaseLocked",
    "DatabaseReadOnly",
    "DatabaseTooNew",
    "Discard",
    "EngineUnavailable",
    "EnqueuedBy",
    "Error",
    "Finding",
    "InvalidTransition",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobList",
    "JobNotFound",
    "JobStatus",
    "JobTimeout",
    "LogLine",
    "NetworkFilesystem",
    "NoCurrentJob",
    "NotCommitted",
    "NotInitialized",
    "Offload",
    "OffloadError",
    "OptionError",
    "OutboxMissing",
    "PayloadError",
    "PayloadTooLarge",
    "Progress",
    "Rate",
    "Retry",
    "RowGone",
    "StepTooLarge",
    "Task",
    "UnknownTask",
    "UnsupportedByEngine",
    "WaitTimeout",
    "current_job",
    "exponential",
    "from_config",
]
