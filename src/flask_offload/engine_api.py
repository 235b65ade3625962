"""The public API for engines in other packages; docs/engines.md shows how to write one.

Everything that is not here is private and may change with any version.
"""

from __future__ import annotations

from .admin.findings import schedule_findings, unknown_tasks
from .engines.base import (
    Engine,
    Finding,
    Flags,
    JobQuery,
    QueueInfo,
    ScheduleInfo,
    WorkOptions,
)
from .engines.host import Host
from .engines.run import ended_badly, run, run_async
from .engines.schedules import Fires, ScheduleSpec, fires, next_fire, schedule_of
from .engines.slots import Slots
from .engines.store import (
    Exchange,
    Pruned,
    Retention,
    Store,
    StoreOptions,
    WorkerInfo,
)
from .jobs.attempt import Claim, Ending, Outcome, Report, latest
from .jobs.context import JobContext
from .jobs.job import Attempt, Error, JobRecord, JobStatus, moment, new_id
from .jobs.job_log import MAX_ATTEMPTS
from .jobs.log import add_job_fields
from .jobs.log import schedule_fired as log_schedule_fired
from .jobs.log import write as log_event
from .jobs.new_job import ASYNC, ISOLATED, MAX_PRIORITY, MIN_PRIORITY, THREADS, NewJob
from .jobs.rate import Rate
from .jobs.transition import MAX_CRASHES, Next, check_cancel, check_retry, follow
from .payload.calls import encode_json_call
from .textui import duration
from .worker.settings import schedule_specs

__all__ = [
    "ASYNC",
    "ISOLATED",
    "MAX_ATTEMPTS",
    "MAX_CRASHES",
    "MAX_PRIORITY",
    "MIN_PRIORITY",
    "THREADS",
    "Attempt",
    "Claim",
    "Ending",
    "Engine",
    "Error",
    "Exchange",
    "Finding",
    "Fires",
    "Flags",
    "Host",
    "JobContext",
    "JobQuery",
    "JobRecord",
    "JobStatus",
    "NewJob",
    "Next",
    "Outcome",
    "Pruned",
    "QueueInfo",
    "Rate",
    "Report",
    "Retention",
    "ScheduleInfo",
    "ScheduleSpec",
    "Slots",
    "Store",
    "StoreOptions",
    "WorkOptions",
    "WorkerInfo",
    "add_job_fields",
    "check_cancel",
    "check_retry",
    "duration",
    "encode_json_call",
    "ended_badly",
    "fires",
    "follow",
    "latest",
    "log_event",
    "log_schedule_fired",
    "moment",
    "new_id",
    "next_fire",
    "run",
    "run_async",
    "schedule_findings",
    "schedule_of",
    "schedule_specs",
    "unknown_tasks",
]
