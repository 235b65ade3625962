"""A child as its supervisor knows it, and what becomes of its jobs when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from ..jobs.attempt import Claim, Ending, Outcome
from ..jobs.job import Error, JobStatus
from ..jobs.new_job import ALONE, ASYNC, THREADS
from ..jobs.transition import follow
from .messages import Channel, Crashed, Ended, Judge, WorkerSettings

PREFETCH_TIME = 0.02
"""Seconds of work that a child holds beyond what its threads are at, so that short jobs follow each
other without a visit to the database in between."""
PREFETCH_MOST = 512
RECALL_AFTER = 0.05
"""Seconds without an outcome after which a child's unstarted jobs are taken back: another child, or
another worker, may be free."""
MUTE_AFTER = 1.0
"""Seconds that a child gets to end once it has closed its channel; one that goes on has closed it
by mistake (as os.closerange does), and would never be heard of again."""


@dataclass
class Held:
    """A job that a child has, and whether it was told to stop."""

    claim: Claim
    told_to_stop: bool = False


@dataclass(frozen=True)
class Stop:
    """Why a child is killed: this job would not listen. timeout: the limit it passed, in seconds;
    None: it was cancelled by force."""

    seq: int
    timeout: float | None


@dataclass(eq=False)
class Child:
    """A child as its supervisor knows it.

    threads, coroutines: as the worker was told; None takes the app's setting. settings: what it
    told when it had imported the app. average: seconds that its thread jobs took lately. is_spent:
    it was for one job and has run it. mute_since: when it closed its channel (monotonic seconds);
    was_mute: it was killed for that.
    """

    pid: int
    channel: Channel
    isolated: bool
    threads: int | None
    coroutines: int | None
    settings: WorkerSettings | None = None
    held: dict[int, Held] = field(default_factory=dict)
    judging: dict[int, Judge] = field(default_factory=dict)
    by_lane: Counter[str] = field(default_factory=Counter)
    average: float = 1.0
    last_news: float = 0.0
    was_recalled: bool = False
    is_spent: bool = False
    is_watched: bool = True
    watches_write: bool = False
    stop: Stop | None = None
    mute_since: float | None = None
    was_mute: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it can be given common jobs."""
        return (
            self.settings is not None
            and not self.isolated
            and self.stop is None
            and not self.channel.is_closed
        )

    @property
    def thread_count(self) -> int:
        """How many jobs its threads run at once."""
        return self.threads or (self.settings.threads if self.settings else 0)

    @property
    def thread_room(self) -> int:
        """How many more jobs its threads may be given, those ahead of their turn included."""
        ahead = min(PREFETCH_MOST, int(self.thread_count * PREFETCH_TIME / max(self.average, 1e-6)))
        return self.thread_count + ahead - self.by_lane[THREADS]

    @property
    def async_room(self) -> int:
        """How many more async jobs it may be given."""
        most = self.coroutines or (self.settings.async_concurrency if self.settings else 0)
        return most - self.by_lane[ASYNC]

    def is_stalled(self, now: float) -> bool:
        """Whether it holds jobs that it has not come to for a while, and may be asked for them."""
        return (
            self.is_ready
            and not self.was_recalled
            and self.by_lane[THREADS] > self.thread_count
            and now - self.last_news > RECALL_AFTER
        )

    def add(self, claim: Claim) -> None:
        """Note a job handed to it."""
        self.held[claim.seq] = Held(claim)
        self.by_lane[claim.lane] += 1

    def remove(self, seq: int) -> Claim | None:
        """Note that it no longer has this job."""
        held = self.held.pop(seq, None)
        if held is None:
            return None
        self.by_lane[held.claim.lane] -= 1
        return held.claim


def room_of(children: Sequence[Child], processes: int, places: int) -> dict[str, int]:
    """How many more jobs each lane of these children takes.

    processes: how many jobs of a lane may run alone at once. places: in the table of slots.
    """
    ready = [child for child in children if child.is_ready]
    alone = {lane: processes - sum(child.by_lane[lane] for child in children) for lane in ALONE}
    room = {
        **alone,
        ASYNC: sum(child.async_room for child in ready),
        THREADS: sum(child.thread_room for child in ready),
    }
    for lane, count in room.items():
        room[lane] = max(0, min(count, places))
        places -= room[lane]
    return room


def overdue(child: Child, started_at: Callable[[Claim], float | None], now: float) -> Stop | None:
    """A job of this child that has passed its timeout and the grace after it, if there is one.

    started_at: tells when a job started. Both in monotonic seconds.
    """
    if child.settings is None or child.stop is not None or not child.settings.timeouts:
        return None
    for held in child.held.values():
        limit, started = child.settings.timeouts.get(held.claim.task), started_at(held.claim)
        if limit is None or started is None:
            continue
        if now > started + limit + child.settings.timeout_grace:
            return Stop(held.claim.seq, limit)
    return None


def last_rites(
    claim: Claim, started: float, stop: Stop | None, reason: str, *, is_ending: bool
) -> Outcome | Judge:
    """What to do about a job that was running when its child died.

    started: monotonic seconds. stop: why the child was killed, if by us. reason: how it died.
    is_ending: whether the whole worker is being stopped.
    """
    began = time.time() - (time.monotonic() - started)

    def ended(ending: Ending, kind: str, text: str) -> Outcome:
        error = Error(kind, text)
        return Outcome(claim.seq, claim.attempt, ending, began, time.time(), error=error)

    if stop is not None and stop.seq == claim.seq:
        if stop.timeout is None:
            text = "the job was stopped by force while it ran"
            return ended(Ending.CANCELLED, "JobCancelled", text)
        text = (
            f"the job ran longer than its timeout of {stop.timeout:g} s, did not stop by itself,"
            " and was stopped by force"
        )
        return Judge(claim, text, began)
    if is_ending:
        return ended(Ending.INTERRUPTED, "Interrupted", "its worker was stopped while the job ran")
    if stop is not None:
        text = "another job's process, which was also this one's, was stopped while it ran"
        return ended(Ending.INTERRUPTED, "Interrupted", text)
    text = f"the process that ran the job died ({reason})"
    return ended(Ending.CRASHED, "WorkerDied", text)


def obituaries(claim: Claim, outcome: Outcome, reason: str) -> list[Crashed | Ended]:
    """What the app's receivers are told of a job whose child died, and that has no word of its own.

    reason: how the child died.
    """
    if outcome.ending is Ending.CANCELLED:
        return [Ended(claim, outcome)]
    if outcome.ending is not Ending.CRASHED:
        return []
    told: list[Crashed | Ended] = [Crashed(claim.id, claim.task, claim.attempt, reason)]
    what = follow(outcome, crashes=claim.crashes, on_crash=claim.on_crash)
    if what.status is JobStatus.FAILED:
        final = msgspec.structs.replace(outcome, ending=Ending.FAILED, error=what.error)
        told.append(Ended(claim, final))
    return told


def unjudged(judge: Judge) -> Outcome:
    """The outcome of a job that was stopped for running too long, when no child is left that could
    ask its task's retry policy."""
    claim, error = judge.claim, Error("JobTimeout", judge.message)
    return Outcome(
        *(claim.seq, claim.attempt, Ending.FAILED, judge.began, time.time()), error=error
    )


def send_signal(pid: int, number: int) -> None:
    """Signal a child that may be dead already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def how_it_died(status: int, *, was_mute: bool = False) -> str:
    """A wait status in words. was_mute: it was killed because it had closed its channel."""
    code = os.waitstatus_to_exitcode(status)
    if was_mute:
        return "it had closed the connection to its worker, as os.closerange does"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
