"""A child process as its pool knows it, and how many jobs it may be given."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..jobs.attempt import Claim
from ..jobs.new_job import ALONE, ASYNC, THREADS
from ..jobs.options import options_of
from .announcer import SharedCount
from .messages import Channel, Crashed, Ended, ResolveTimeout, WorkerSettings

PAGE = os.sysconf("SC_PAGE_SIZE")
EARLY = 5.0
"""Seconds after which the end of a child that was ready for jobs is no failed start."""
PREFETCH_TIME = 0.02
"""Seconds of work that a child holds beyond what its threads are at, so that short jobs follow each
other without a transaction in between."""
PREFETCH_MOST = 512
RECALL_AFTER = 0.05
"""Seconds without an outcome after which a child's unstarted jobs are taken back: another child, or
another worker, may be free."""
UNRESPONSIVE_AFTER = 1.0
"""Seconds that a child gets to end once it has closed its channel; one that goes on has closed it
by mistake (as os.closerange does), and could never report again."""


@dataclass(frozen=True)
class PoolSize:
    """Child processes, threads of each, async jobs at once in each; None takes the app's
    setting."""

    processes: int | None = None
    threads: int | None = None
    async_concurrency: int | None = None


@dataclass
class Held:
    """A job that a child has, and whether it has been asked to stop."""

    claim: Claim
    was_cancelled: bool = False


@dataclass(frozen=True)
class Stop:
    """Why a child is killed: this job would not listen. timeout: the limit it passed, in seconds;
    None: it was cancelled by force."""

    seq: int
    timeout: float | None


@dataclass(eq=False)
class ChildHandle:
    """A child process as its pool knows it.

    threads, coroutines: as given to the worker; None takes the app's setting. settings: as
    it reported them when it had imported the app. average: seconds that its thread jobs took
    lately. is_spent: it was for one job and has run it. unresponsive_since: when it closed its
    channel (monotonic seconds); was_unresponsive: it was killed for that.
    """

    pid: int
    channel: Channel
    isolated: bool
    threads: int | None
    coroutines: int | None
    settings: WorkerSettings | None = None
    held: dict[int, Held] = field(default_factory=dict)
    resolving: dict[int, ResolveTimeout] = field(default_factory=dict)
    by_lane: Counter[str] = field(default_factory=Counter)
    average: float = 1.0
    last_event: float = 0.0
    was_recalled: bool = False
    is_spent: bool = False
    is_watched: bool = True
    watches_write: bool = False
    stop: Stop | None = None
    unresponsive_since: float | None = None
    was_unresponsive: bool = False
    ready_at: float | None = None
    """When it had imported the app (monotonic seconds)."""
    timeouts: dict[int, float] = field(default_factory=dict)
    """Timeouts of the held jobs that have one, by their seq."""
    announced: SharedCount = field(default_factory=SharedCount)
    """How many of the events that it was sent it has announced."""
    _events: list[Crashed | Ended] = field(default_factory=list)
    _event_count: int = 0
    finished: int = 0
    """How many jobs it has finished."""
    is_worn: bool = False
    """It gets no more jobs, and is replaced."""

    @property
    def is_ready(self) -> bool:
        """Whether it can be given common jobs."""
        return (
            self.settings is not None
            and not self.isolated
            and self.stop is None
            and not self.is_worn
            and not self.channel.is_closed
        )

    @property
    def thread_count(self) -> int:
        """How many jobs its threads run at once."""
        return self.threads or (self.settings.config.worker_threads if self.settings else 0)

    @property
    def thread_capacity(self) -> float:
        """How many more jobs its threads may be given, those ahead of their turn included."""
        ahead = min(PREFETCH_MOST, int(self.thread_count * PREFETCH_TIME / max(self.average, 1e-6)))
        return min(self._left, self.thread_count + ahead - self.by_lane[THREADS])

    @property
    def async_capacity(self) -> float:
        """How many more async jobs it may be given."""
        most = self.coroutines or (self.settings.config.async_concurrency if self.settings else 0)
        return min(self._left, most - self.by_lane[ASYNC])

    @property
    def _left(self) -> float:
        """How many more jobs it may be given until it is replaced."""
        most = self.settings.config.worker_max_jobs if self.settings else 0
        return max(0, most - self.finished - len(self.held)) if most else math.inf

    def has_aged(self) -> bool:
        """Whether it has just become too old, or too large, for more jobs."""
        if self.settings is None or self.is_worn or self.isolated:
            return False
        config = self.settings.config
        is_old = 0 < config.worker_max_jobs <= self.finished
        self.is_worn = is_old or 0 < config.worker_max_memory < memory_of(self.pid)
        return self.is_worn

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Select on what its channel waits for."""
        if self.channel.is_closed:
            if self.is_watched:
                selector.unregister(self.channel)
                self.is_watched = False
        elif self.channel.wants_write is not self.watches_write:
            self.watches_write = self.channel.wants_write
            writing = selectors.EVENT_WRITE if self.watches_write else 0
            selector.modify(self.channel, selectors.EVENT_READ | writing)

    def note_import(self, settings: WorkerSettings) -> None:
        """Note that it has imported the app and reported these settings."""
        self.settings = settings
        self.ready_at = time.monotonic()
        for held in self.held.values():
            self._note_timeout(held.claim)

    def _note_timeout(self, claim: Claim) -> None:
        timeout = options_of(claim.options).timeout
        if timeout is None and self.settings is not None:
            timeout = self.settings.timeouts.get(claim.task)
        if timeout is not None:
            self.timeouts[claim.seq] = timeout

    def is_stalled(self, now: float) -> bool:
        """Whether it holds jobs that it has not come to for a while, and may be asked for them."""
        return (
            self.is_ready
            and not self.was_recalled
            and self.by_lane[THREADS] > self.thread_count
            and now - self.last_event > RECALL_AFTER
        )

    def has_failed_early(self, now: float, started_at: Callable[[Claim], float | None]) -> bool:
        """Whether it ended before it could do anything, so that the next one must wait: before it
        had imported the app, or soon after that and of no job's doing."""
        if self.ready_at is None:
            return True
        has_started = any(started_at(held.claim) for held in self.held.values())
        is_early = now - self.ready_at < EARLY
        return is_early and not (self.finished or self.is_spent or self.stop or has_started)

    def announce(self, event: Crashed | Ended) -> None:
        """Let it send the signals of this event."""
        self._events = self.unannounced
        self._events.append(event)
        self._event_count += 1
        self.channel.send(event)

    @property
    def unannounced(self) -> list[Crashed | Ended]:
        """The events that it was sent and has not announced."""
        left = self._event_count - self.announced.value
        return self._events[len(self._events) - left :]

    def add(self, claim: Claim) -> None:
        """Note a job handed to it."""
        self.held[claim.seq] = Held(claim)
        self.by_lane[claim.lane] += 1
        self._note_timeout(claim)

    def remove(self, seq: int) -> Claim | None:
        """Note that it no longer has this job."""
        held = self.held.pop(seq, None)
        if held is None:
            return None
        self.by_lane[held.claim.lane] -= 1
        self.timeouts.pop(seq, None)
        return held.claim


def capacity_of(children: Sequence[ChildHandle], processes: int, places: int) -> dict[str, int]:
    """How many more jobs each lane of these children takes.

    processes: how many jobs of a lane may run alone at once. places: in the table of slots.
    """
    ready = [child for child in children if child.is_ready]
    alone = {lane: processes - sum(child.by_lane[lane] for child in children) for lane in ALONE}
    capacity: dict[str, Any] = {
        **alone,
        ASYNC: sum(child.async_capacity for child in ready),
        THREADS: sum(child.thread_capacity for child in ready),
    }
    for lane, count in capacity.items():
        capacity[lane] = int(max(0, min(count, places)))
        places -= capacity[lane]
    return capacity


def overdue(
    child: ChildHandle, started_at: Callable[[Claim], float | None], now: float
) -> Stop | None:
    """A job of this child that has passed its timeout and the grace after it, if there is one.

    started_at: gives the time when a job started. Both in monotonic seconds.
    """
    if child.settings is None or child.stop is not None:
        return None
    for seq, limit in child.timeouts.items():
        started = started_at(child.held[seq].claim)
        if started is None:
            continue
        if now > started + limit + child.settings.config.timeout_grace:
            return Stop(seq, limit)
    return None


def memory_of(pid: int) -> int:
    """Bytes of memory that this process has (its resident set); 0 where /proc does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * PAGE


def send_signal(pid: int, number: int) -> None:
    """Signal a child that may be dead already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
