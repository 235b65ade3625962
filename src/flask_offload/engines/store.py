"""The worker half of an engine: what Flask-Offload's worker asks of the database with the jobs.

SQLite implements it; another database is another subclass, and `worker/` stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ..jobs.attempt import Claim, Outcome, Report
from ..jobs.job import JobRecord, JobStatus
from ..jobs.options import options_of
from .schedules import ScheduleSpec
from .slots import Slots


@dataclass(frozen=True)
class Retention:
    """How long finished jobs are kept, in seconds, and how many at most.

    own: the `keep=` of the tasks that have one, by their names. on_failure: the names of those with
    an `on_failure=`, whose jobs get a follower when they fail. silent: the names of those about
    which OFFLOAD_ALERT is not called; None: it is not set.
    """

    successful: float
    failed: float
    count: int
    own: Mapping[str, Mapping[JobStatus, float]] = field(default_factory=dict)
    on_failure: frozenset[str] = frozenset()
    silent: frozenset[str] | None = None

    def unsuccessful(self, task: str, status: JobStatus, options: str | None = None) -> float:
        """For a job that has FAILED or was CANCELLED, also where its task could not be asked.
        options: the job's own (JSON)."""
        own = options_of(options).keep_for(status)
        return self.own.get(task, {}).get(status, self.failed) if own is None else own


class StoreOptions(msgspec.Struct, kw_only=True, frozen=True):
    """How a worker opens its store.

    kind: "kept", "command", "thread" or "test". queues: the only ones it serves; None: all. places:
    how many jobs it may hold at once. capacity: how many of them its threads run at once.
    """

    kind: str
    retention: Retention
    places: int
    capacity: int
    queues: frozenset[str] | None = None


class WorkerInfo(msgspec.Struct, kw_only=True, frozen=True):
    """A worker as its store knows it; kind, queues and capacity as in StoreOptions.

    started_at: unix seconds. boot: which run of the machine it belongs to.
    """

    id: str
    pid: int
    host: str
    boot: str
    kind: str
    queues: list[str] | None
    capacity: int
    started_at: float
    stopping: bool


@dataclass
class Exchange:
    """What one `exchange` with the store brought."""

    claims: list[Claim] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)
    """Outcomes that came too late: the attempt was no longer this worker's."""
    stray_files: list[str] = field(default_factory=list)
    """Spooled files that no job needs any more."""


class Pruned(msgspec.Struct, frozen=True):
    """What a batch of pruning removed. files: names of spooled files that went with the jobs."""

    jobs: int = 0
    files: Sequence[str] = ()
    has_more: bool = False
    """Whether there may be more to remove at once."""


class NotificationSource(Protocol):
    """What a worker waits on: readable when something was committed that it should look at."""

    def fileno(self) -> int:
        """The descriptor to select on."""

    def clear(self) -> None:
        """Consume all notifications so far."""


class Store(ABC):
    """The database as one worker sees it, from its opening (`Engine.open_store`) until `close`.

    Every method may raise EngineUnavailable, and has then done nothing. Every write about an
    attempt is fenced by the attempt and by this worker.
    """

    worker_id: str
    slots: Slots
    notifier: NotificationSource

    @abstractmethod
    def clock(self) -> float:
        """The time by which jobs are due (unix seconds)."""

    # --- jobs ---

    @abstractmethod
    def exchange(self, outcomes: Sequence[Outcome], capacity: Mapping[str, int]) -> Exchange:
        """Record outcomes, and claim as many jobs as each lane has capacity for, at once."""

    @abstractmethod
    def give_back(self, claims: Iterable[Claim], *, delay: float = 0.0) -> None:
        """Jobs that were claimed and never started become READY again, at no cost.

        delay: seconds before they may be claimed, for those that this worker can't run.
        """

    @abstractmethod
    def report(self, reports: Iterable[Report]) -> None:
        """Record progress and cursors."""

    @abstractmethod
    def cancellations(self) -> list[tuple[int, int, bool]]:
        """(seq, attempt, by force) of this worker's jobs that have been asked to stop."""

    def lapsed(self) -> Sequence[tuple[int, int]]:
        """(seq, attempt) of jobs that this worker has to stop at once, while the store can't be
        used: other workers may start them. Empty where that can't happen."""
        return ()

    # --- time ---

    @abstractmethod
    def next_due(self) -> float | None:
        """When the next delayed job, or a rate's next start, is due (unix seconds)."""

    @abstractmethod
    def promote(self) -> int:
        """Let what is due now be claimed, at most a batch; how many jobs came due."""

    @abstractmethod
    def tick(self, spec: ScheduleSpec) -> list[JobRecord]:
        """Enqueue a job for each time of the schedule that has come, exactly once however many
        workers call it; the jobs that are new."""

    @abstractmethod
    def next_tick(self, spec: ScheduleSpec) -> float | None:
        """When the schedule's next time comes (unix seconds)."""

    # --- other workers ---

    @abstractmethod
    def recover(
        self, before: Callable[[str], object] = lambda worker_id: None
    ) -> list[tuple[str, int]]:
        """Put back the jobs of dead workers; (worker id, number of jobs) of each that had any.

        before: called with the id of each dead worker before its jobs are put back.
        """

    @abstractmethod
    def workers(self) -> list[WorkerInfo]:
        """The workers that are alive now, this one among them."""

    def is_asked_to_stop(self) -> bool:
        """Whether `Engine.stop_worker` was called for this worker."""
        return False

    def peer_pids(self) -> set[int]:
        """Process ids of the other workers on this machine, so that their end is noticed at
        once."""
        return set()

    # --- maintenance ---

    @abstractmethod
    def has_changed(self) -> bool:
        """Whether another connection has written since the last call: the safety net for a
        notification that was lost."""

    @abstractmethod
    def prune(self) -> Pruned:
        """Delete a batch of what retention no longer keeps, and give space back."""

    def is_maintenance_urgent(self) -> bool:
        """Whether `prune` should be called soon."""
        return False

    @abstractmethod
    def known_files(self) -> set[str]:
        """The spooled files that some job still refers to."""

    # --- beginning and end ---

    @abstractmethod
    def set_stopping(self) -> None:
        """Record that this worker claims no more jobs."""

    @abstractmethod
    def close(self) -> None:
        """Unregister this worker; what it still holds is put back by the others."""

    def close_before_fork(self) -> None:  # noqa: B027 (a store without connections has nothing to do)
        """Close what must not cross a fork; the next call opens it again."""

    def close_in_child(self) -> None:  # noqa: B027
        """In a forked child: close the descriptors that are the worker's."""
