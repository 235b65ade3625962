"""The interface between Flask-Offload and the engines that keep its jobs.

Every engine implements the **sender** half below. What it can't do is off in its `flags`; pages and
commands check the flags first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from ..errors import InvalidTransition, JobNotFound, UnsupportedByEngine
from ..jobs.attempt import Claim
from ..jobs.job import JobRecord, JobStatus
from ..jobs.new_job import NewJob
from .counter_row import CounterRow, EnqueueTimes
from .in_transaction import InTransaction
from .job_lists import LOOK as LOOK
from .job_lists import FailureGroup as FailureGroup
from .job_lists import JobPage as JobPage
from .job_lists import JobQuery as JobQuery
from .job_lists import group_failures, page_of_list
from .store import Store, StoreOptions, WorkerInfo


@dataclass(frozen=True)
class Flags:
    """What an engine can do."""

    durable: bool = False
    """An accepted job survives the death of every process."""
    deferred: bool = False
    """`run_after` is kept."""
    priorities: bool = False
    """Of two jobs of a queue the one of higher priority starts first, then the older; an engine may
    take priorities that are near each other for one."""
    lists: bool = False
    """Jobs can be listed and counted."""
    cancels_waiting: bool = False
    """A job that has not started can be cancelled."""
    cancels_running: bool = False
    """A running job can be asked to stop."""
    pauses: bool = False
    """Queues can be paused and resumed."""
    retries: bool = False
    """A finished job can be run again by hand."""
    discards: bool = False
    """A finished job can be deleted by hand."""
    unique: bool = False
    """`unique=` is kept, race-free; so is the `Idempotency-Key` of a request."""
    limits: bool = False
    """`concurrency=` and `rate=` are kept."""
    schedules: bool = False
    """`@offload.every` is kept, each tick once, and a schedule can be disabled by hand."""
    isolates: bool = False
    """`isolate=True`: a process of its own for the job."""
    steps: bool = False
    """`current_job.once` is kept."""
    logs: bool = False
    """The lines that a job logs are kept (OFFLOAD_KEEP_LOG)."""
    on_failure: bool = False
    """`on_failure=` is kept: its job is enqueued with the outcome of the failed one."""
    alerts: bool = False
    """`OFFLOAD_ALERT` is kept: it is called when a task begins to fail, and when it recovers."""
    retention: bool = False
    """`keep=` and `result_ttl=` are kept: a job and its result are forgotten in their time."""
    transactional_batches: bool = False
    """`enqueue_many` is all or nothing."""
    own_worker: bool = False
    """Flask-Offload's worker runs its jobs, and the keeper of a web process keeps one."""
    worker_command: bool = False
    """`flask offload worker` starts a worker for it."""
    outbox: bool = False
    """`OFFLOAD_OUTBOX` is kept: jobs are accepted while no server can be reached."""
    counters: bool = False
    """What became of attempts is counted by the minute, for the dashboard's charts and metrics."""
    files: bool = False
    """Uploaded files travel beside the arguments, up to OFFLOAD_MAX_FILE; without it they travel
    among them, up to OFFLOAD_MAX_PAYLOAD."""

    @classmethod
    def names(cls) -> list[str]:
        """The flags' names, in order."""
        return [field.name for field in fields(cls)]


class ScheduleInfo(msgspec.Struct, kw_only=True, frozen=True):
    """A schedule as the engine knows it; moments in unix seconds. disabled_at: since when it makes
    no jobs; None if it is enabled."""

    name: str
    task: str
    description: str
    last_run: float | None
    last_job: str | None
    next_run: float | None
    disabled_at: float | None = None


class WorkOptions(msgspec.Struct, kw_only=True, frozen=True):
    """The options of `flask offload worker`; None takes the app's setting."""

    processes: int | None = None
    threads: int | None = None
    queues: frozenset[str] | None = None
    drain_timeout: float | None = None
    burst: bool = False
    log_level: str = "info"


class QueueInfo(msgspec.Struct, kw_only=True, frozen=True):
    """A queue, how many jobs wait in it, and since when it is paused (unix seconds)."""

    name: str
    ready: int
    running: int
    paused_at: float | None


Level = Literal["ok", "note", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """The result of a check: `ok`, a `note` that is no fault, or a `problem` and how to fix it."""

    check: str
    level: Level
    message: str


class PruneReport(msgspec.Struct, frozen=True):
    """What `Engine.prune` deleted: jobs and spooled files; the database's bytes before and
    after."""

    jobs: int
    files: int
    bytes_before: int
    bytes_after: int


class Engine(InTransaction):
    """The sender half: what an app and its commands ask of an engine.

    Every method may raise EngineUnavailable, within a bounded time, and then has done nothing.
    """

    name: ClassVar[str]
    flags: ClassVar[Flags]
    opener: ClassVar[str] = ""
    """`module:function(database, config) -> Engine`, by which a worker that has not imported the
    app opens an engine with `own_worker`."""
    ignores: ClassVar[frozenset[str]] = frozenset()
    """Flags that are off, but whose task options are let pass without effect. For tests' sake only:
    everywhere else, an option that can't be kept is refused."""

    @abstractmethod
    def enqueue(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Accept jobs, all or none; the records come back in the same order. More than one comes
        only with the flag transactional_batches.

        A unique job that exists already comes back as it stands, with `is_duplicate` set.
        """

    @abstractmethod
    def get(self, job_id: str) -> JobRecord:
        """One job with its attempts and its result. Raises JobNotFound."""

    def find_unique(self, key: str) -> JobRecord | None:
        """The job that holds a unique key, whatever its status. For engines with `unique`."""
        raise self.unsupported("unique")

    def step(self, claim: Claim, name: str, value: str | None = None) -> tuple[bool, str | None]:
        """A step of `current_job.once`: whether the attempt still holds its job, and what is stored
        under that name. value: store this first, durably, if the attempt does. For engines with
        `steps`."""
        raise self.unsupported("steps")

    def list(self, query: JobQuery) -> list[JobRecord]:
        """Jobs without their results, newest first."""
        raise self.unsupported("lists")

    def page(self, query: JobQuery, look: int = LOOK) -> JobPage:
        """Jobs without their results, newest first, in a bounded time: at most about `look` jobs
        are looked at. This one is for engines that have `list` only."""
        return page_of_list(self, query, look)

    def matching(self, query: JobQuery, look: int = LOOK) -> tuple[int, bool]:
        """How many of the jobs that `page` would look at meet the query's conditions, and whether
        there are more that were not looked at."""
        count = 0
        while True:
            found = self.page(query, look)
            count += len(found.jobs)
            if found.next is None or found.is_partial or count >= look:
                return count, found.next is not None
            query = msgspec.structs.replace(query, after=found.next)

    def failures(self, look: int = LOOK) -> Sequence[FailureGroup]:
        """The newest FAILED jobs, at most `look`, by task and type of error; the newest first."""
        return group_failures(self.list(JobQuery(status=JobStatus.FAILED, limit=min(look, 1000))))

    def waiting_since(self) -> float | None:
        """Since when the job that is first in line waits (unix seconds); None if none is ready."""
        return None

    def workers(self) -> Sequence[WorkerInfo]:
        """The workers that are alive. For engines with `own_worker`."""
        raise self.unsupported("own_worker")

    def stop_worker(self, worker_id: str) -> None:
        """Ask a worker process to finish what it runs, and to stop; within a second or two it
        begins to. For engines with `own_worker`."""
        raise self.unsupported("own_worker")

    def counters(self, since: float) -> Sequence[CounterRow]:
        """What became of attempts since this moment (unix seconds), of all tasks, by the minute; by
        ten minutes where that is long ago."""
        raise self.unsupported("counters")

    def totals(self) -> Sequence[CounterRow]:
        """What became of all attempts, by task."""
        raise self.unsupported("counters")

    def enqueue_times(self) -> EnqueueTimes:
        """How long enqueues of all processes took, but for those that a process has counted since
        it wrote them last."""
        raise self.unsupported("counters")

    def arguments(self, job_id: str) -> str:
        """The encoded arguments of a job (JSON). Raises JobNotFound."""
        raise self.unsupported("lists")

    def log(self, job_id: str) -> Sequence[tuple[int, str]]:
        """(number of the attempt, the newest `log` of its reports) of those attempts of a job that
        have logged, the earliest first. Raises JobNotFound. For engines with `logs`."""
        raise self.unsupported("logs")

    def checkpoint(self, job_id: str) -> str | None:
        """What a job has stored last with `current_job.checkpoint` (JSON). Raises JobNotFound."""
        return None

    def ids(self, beginning: str) -> Sequence[str]:
        """Up to two ids that begin so (two: it is ambiguous); none if the engine can't search."""
        return ()

    def count(self) -> dict[JobStatus, int]:
        """How many jobs have each status."""
        raise self.unsupported("lists")

    def cancel(self, job_id: str, *, force: bool = False) -> JobRecord:
        """See Job.cancel."""
        raise self.unsupported("cancels_waiting")

    def retry(self, job_id: str) -> JobRecord:
        """See Job.retry."""
        raise self.unsupported("retries")

    def cancel_many(self, ids: Sequence[str], force: bool = False) -> int:
        """Cancel those of some jobs that can be cancelled; how many. A store does it in one
        transaction, so give it a hundred at most."""
        return _count_changes(lambda job_id: self.cancel(job_id, force=force), ids)

    def retry_many(self, ids: Sequence[str]) -> int:
        """The same for `retry`."""
        return _count_changes(self.retry, ids)

    def discard_many(self, ids: Sequence[str]) -> int:
        """Delete those of some jobs that have ended, with their results; how many. As for
        `cancel_many`, a hundred at most. For engines with `discards`."""
        raise self.unsupported("discards")

    def pause(self, queue_name: str) -> None:
        """Start no more jobs of this queue, until resume()."""
        raise self.unsupported("pauses")

    def resume(self, queue_name: str) -> None:
        """Take back pause()."""
        raise self.unsupported("pauses")

    def queues(self) -> Iterable[QueueInfo]:
        """Every queue that has ever had a job."""
        raise self.unsupported("lists")

    def schedules(self) -> Sequence[ScheduleInfo]:
        """Every schedule that a worker has ever seen."""
        raise self.unsupported("schedules")

    def disable_schedule(self, schedule: ScheduleInfo) -> None:
        """Make no more jobs of a schedule, through restarts and deploys, until `enable_schedule`.
        schedule: its name; its task and description too, if no worker has seen it yet."""
        raise self.unsupported("schedules")

    def enable_schedule(self, name: str) -> None:
        """Take back disable_schedule(); times that have passed meanwhile make no jobs."""
        raise self.unsupported("schedules")

    def work(self, options: WorkOptions) -> int:
        """Run jobs in this process until it is asked to stop; the exit code. For engines with
        `worker_command` and without `own_worker`."""
        raise self.unsupported("worker_command")

    def open_store(self, options: StoreOptions) -> Store:
        """The worker half, for a worker in this process. For engines with `own_worker`."""
        raise self.unsupported("own_worker")

    def run_folder(self) -> Path:
        """Where the processes of this machine that use the database keep their locks. For engines
        with `own_worker`."""
        raise self.unsupported("own_worker")

    def run_next(self, queue_name: str | None = None) -> str | None:
        """Run the next waiting job in this thread; its id, None if none is due. For engines that
        run jobs where they are enqueued."""
        raise UnsupportedByEngine(
            f"jobs of the {self.name} engine can't be run in a test's own thread: set"
            " OFFLOAD_ENGINE to 'sqlite' or 'inline' for tests"
        )

    def next_due(self) -> float | None:
        """When the next waiting job is due (unix seconds), for engines with run_next()."""
        return None

    def prune(self, before: float | None = None) -> PruneReport:
        """Delete finished jobs, and give their space back.

        before: those that had finished by then (unix seconds); None: those whose retention time is
        over, as workers do by themselves.
        """
        if not self.flags.retention:
            raise self.unsupported("retention")
        raise UnsupportedByEngine(
            f"workers of the {self.name} engine delete expired jobs by themselves"
            " (OFFLOAD_KEEP_…): there is nothing to do by hand"
        )

    def migrate(self) -> None:
        """Create the engine's tables, or bring them to this release's version, where a role of a
        server has to have the right to. Raises UnsupportedByEngine where there are none."""
        raise UnsupportedByEngine(
            f"the {self.name} engine has no tables on a server: there is nothing to migrate"
        )

    def findings(self) -> Iterable[Finding]:
        """What `flask offload check` reports of this engine: whether its store can be reached, who
        runs jobs, what is stuck. Raises nothing."""
        return ()

    def clear(self) -> None:
        """Forget every job, so that a test begins with none."""
        raise self.unsupported("lists")

    def close(self) -> None:
        """Close the connections; the next call opens them again."""

    def unsupported(self, flag: str) -> UnsupportedByEngine:
        """The error for something this engine's flags deny."""
        return UnsupportedByEngine(
            f"the {self.name} engine can't do this (flag {flag!r} is off):"
            " choose another OFFLOAD_ENGINE, or leave it out"
        )


def _count_changes(change: Callable[[str], object], ids: Iterable[str]) -> int:
    changed = 0
    for job_id in ids:
        with suppress(InvalidTransition, JobNotFound):
            change(job_id)
            changed += 1
    return changed
