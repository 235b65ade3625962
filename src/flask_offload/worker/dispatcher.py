"""The part of a worker that talks to the database: claims for its crew, writes down what they did,
and does the chores: due jobs, schedules, dead workers, retention.

It has no clock or wait of its own: its owner calls `step` whenever the bell rings, the crew has
news, or the time that the last `step` asked for is over.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..engines.base import ScheduleSpec
from ..engines.sqlite.engine import SqliteEngine
from ..engines.sqlite.maintenance import give_space_back, is_log_long, known_files, prune
from ..engines.sqlite.recovery import recover
from ..engines.sqlite.schedules import next_tick, tick
from ..engines.sqlite.worker_store import Ledger, Retention
from ..errors import EngineUnavailable
from ..jobs import log
from ..jobs.attempt import Claim, Outcome, Report
from ..jobs.new_job import QUARANTINED
from ..payload.spool import Spool
from .crash_cooldown import Unrest

POLL = 1.0
"""Seconds between two looks at the database without a ring of the bell: the safety net."""
RECOVER_EVERY = 1.0
CHORES_EVERY = 5.0
LONG_LOG_EVERY = 3.0
"""Seconds until the chores are done again while a reader keeps the write-ahead log long."""
FREE_PAGES = 1024
"""Pages of 4 KiB that stay in the database's file for jobs to come."""
ORPHANED_AFTER = 3600.0
"""Seconds after which a spooled file that no job refers to goes: its enqueue was cut short."""
UNKNOWN_DELAY = 5.0
"""Seconds for which a job is left alone whose task this app doesn't have: during a deploy, another
worker may have it."""
LOOK_AT_CLOCK = 60.0
"""Seconds between two looks at the schedules, whatever the next time is: the clock may be set."""
RETRY_DATABASE = (0.1, 0.3, 1.0)
"""Seconds to wait after the first, second, and every further failure of the database."""


@dataclass
class News:
    """What the crew has to tell since it was last asked."""

    reports: list[Report] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    unstarted: list[Claim] = field(default_factory=list)
    """Given back without having started."""
    unknown: list[Claim] = field(default_factory=list)
    """Given back because the app has no such task."""
    more_room: bool = False
    """There is room that no outcome speaks of: somebody new is ready for jobs."""
    unrest: bool = False
    """A process has died in which jobs run together."""

    def __bool__(self) -> bool:
        return bool(self.reports or self.outcomes or self.unstarted or self.unknown)


class Crew(Protocol):
    """Those who run the jobs: child processes, or threads of this process."""

    def room(self) -> Mapping[str, int]:
        """How many more jobs each lane takes."""

    def hand_out(self, claims: Sequence[Claim]) -> None:
        """Run these."""

    def news(self) -> News:
        """What happened since the last call."""

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """These are written down: nothing needs to be remembered of them."""

    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        """Stop this attempt, softly or by force. Said again and again until it has ended."""

    @property
    def holds(self) -> int:
        """How many jobs it has that are not finished."""


class Dispatcher:
    """See the module. is_closing: claim nothing more."""

    def __init__(
        self,
        ledger: Ledger,
        crew: Crew,
        *,
        retention: Retention,
        schedules: Sequence[ScheduleSpec] = (),
        spool: Spool | None = None,
    ) -> None:
        self._ledger = ledger
        self._engine: SqliteEngine = ledger.engine
        self._crew = crew
        self._retention = retention
        self._schedules = schedules
        self._spool = spool
        self._backlog = News()  # what could not be written yet
        self._unrest = Unrest()
        self._waits_for_calm = False
        self._look = True
        self._seen_changes: int | None = None
        self._due_at: float | None = None
        self._failures = 0
        self._not_before = 0.0
        self._next_poll = self._next_recovery = 0.0
        self._next_chores = time.monotonic() + 1.0
        self._next_tick = self._tick_by = 0.0
        self.is_closing = False
        self._has_found_nothing = False

    @property
    def is_idle(self) -> bool:
        """Whether the last claim found nothing although every lane had room, and nothing is due."""
        return self._has_found_nothing and not self._is_due

    def ring(self) -> None:
        """Somebody changed the database: look at it in the next step."""
        self._look = True

    def look_for_dead(self) -> None:
        """Another worker has ended: see in the next step whether its jobs are to be put back."""
        self._next_recovery = 0.0

    def put_back(self, claims: Sequence[Claim]) -> None:
        """Jobs that will not be started here, for the next step."""
        self._backlog.unstarted += claims

    def is_due_within(self, seconds: float) -> bool:
        """Whether a job that has to wait, for a retry, its time or its rate, may soon run."""
        return self._due_at is not None and self._due_at <= self._engine.clock() + seconds

    @property
    def has_unwritten(self) -> bool:
        """Whether outcomes wait for a database that can't be written."""
        return bool(self._backlog)

    def step(self) -> float:
        """Do what there is to do; the seconds after which to call again at the latest."""
        now = time.monotonic()
        self._gather(self._crew.news())
        if now < self._not_before:
            return self._not_before - now
        try:
            wait = self._work(now)
        except EngineUnavailable as error:
            return self._put_off(now, error)
        if self._failures:
            log.write(logging.WARNING, "database_back", "the job database can be used again")
            self._failures = 0
        return wait

    # --- steps ---

    def _gather(self, news: News) -> None:
        self._backlog.reports += news.reports
        self._backlog.outcomes += news.outcomes
        self._backlog.unstarted += news.unstarted
        self._backlog.unknown += news.unknown
        self._look = self._look or news.more_room
        if news.unrest:
            self._unrest.note(time.monotonic())

    def _work(self, now: float) -> float:
        if now >= self._next_poll:
            self._next_poll = now + POLL
            self._notice_changes()
            if is_log_long(self._engine):
                self._next_chores = min(self._next_chores, now + LONG_LOG_EVERY)
        self._recover(now)
        self._look |= self._waits_for_calm and not self._unrest.left(now)
        look = self._look
        self._tick(now)
        self._promote()
        self._write_side_news()
        if self._backlog.outcomes or self._look:
            self._exchange()  # before all that can wait: a job may have been enqueued just now
            self._due_at = self._ledger.next_due()  # a retry, a rate, or an enqueue may have set it
        if look:
            self._cancel()
        self._chores(now)
        return self._wait(now)

    def _notice_changes(self) -> None:
        changes = self._engine.database.changes()
        if changes != self._seen_changes:
            self._seen_changes = changes
            self._look = True

    def _cancel(self) -> None:
        if self._crew.holds:
            for seq, attempt, force in self._ledger.cancellations():
                self._crew.cancel(seq, attempt, force=force)

    def _recover(self, now: float) -> None:
        if now < self._next_recovery:
            return
        self._next_recovery = now + RECOVER_EVERY
        for worker, jobs in recover(self._engine, self._retention, self._ledger.worker_id):
            self._look = True
            self._unrest.note(now)
            log.write(
                logging.WARNING,
                "worker_recovered",
                "worker %s is dead: %d of its jobs put back",
                worker,
                jobs,
                worker=worker,
            )

    @property
    def _is_due(self) -> bool:
        return self._due_at is not None and self._due_at <= self._engine.clock()

    def _promote(self) -> None:
        while self._is_due:
            self._ledger.promote()
            self._look = True
            self._due_at = self._ledger.next_due()

    def _tick(self, now: float) -> None:
        clock = self._engine.clock()
        if not self._schedules or self.is_closing:
            return
        if clock < self._next_tick and now < self._tick_by:
            return
        for spec in self._schedules:
            for job in tick(self._engine, spec, clock):
                self._look = True
                log.schedule_fired(spec.name, job.id, job.task)
        times = [next_tick(self._engine, spec, clock) for spec in self._schedules]
        self._next_tick = min((time for time in times if time is not None), default=math.inf)
        self._tick_by = now + LOOK_AT_CLOCK

    def _write_side_news(self) -> None:
        backlog = self._backlog
        if backlog.reports:
            self._ledger.report(backlog.reports)
            backlog.reports = []
        if backlog.unstarted:
            self._ledger.give_back(backlog.unstarted)
            backlog.unstarted = []
            self._look = True
        if backlog.unknown:
            self._ledger.give_back(backlog.unknown, delay=UNKNOWN_DELAY)
            self._due_at = self._ledger.next_due()
            for name in sorted({claim.task for claim in backlog.unknown}):
                message = "no task %s in this app: its jobs wait for a worker that has it"
                log.write(logging.WARNING, "task_unknown", message, name, task=name)
            backlog.unknown = []

    def _exchange(self) -> None:
        """Write outcomes and claim more, in one transaction."""
        self._look = False
        room = {} if self.is_closing else dict(self._crew.room())
        self._waits_for_calm = QUARANTINED in room and self._unrest.left(time.monotonic()) > 0
        if self._waits_for_calm:
            room[QUARANTINED] = 0
        wanted = sum(room.values())
        if not self._backlog.outcomes and not wanted:
            return
        visit = self._ledger.exchange(self._backlog.outcomes, room)
        self._crew.settle(self._backlog.outcomes)
        self._backlog.outcomes = []
        if visit.claims:
            self._crew.hand_out(visit.claims)
        self._has_found_nothing = all(room.values()) and not visit.claims
        if visit.stray_files and self._spool is not None:
            self._spool.remove(visit.stray_files)
        for late in visit.refused:
            log.write(
                logging.WARNING,
                "outcome_refused",
                "an outcome came too late and was not written: job number %d, attempt %d, %s",
                late.seq,
                late.attempt,
                late.ending,
            )

    def _chores(self, now: float) -> None:
        if now < self._next_chores:
            return
        pruned = prune(self._engine, keep_count=self._retention.count)
        has_more = pruned.has_more or give_space_back(self._engine, reserve=FREE_PAGES) > 0
        if self._spool is not None:
            self._spool.remove(pruned.files)
            if not pruned.has_more:
                self._spool.sweep(known_files(self._engine), ORPHANED_AFTER)
        # in small bites, so that an enqueue in between never waits long
        pause = LONG_LOG_EVERY if is_log_long(self._engine) else CHORES_EVERY
        self._next_chores = now + (0.02 if has_more else pause)

    def _wait(self, now: float) -> float:
        if self._look:
            return 0.0
        until = [self._next_poll - now, self._next_recovery - now, self._next_chores - now]
        clock = self._engine.clock()
        if self._waits_for_calm:
            until.append(self._unrest.left(now))
        if self._due_at is not None:
            until.append(self._due_at - clock)
        if self._schedules and not self.is_closing:
            until.append(self._next_tick - clock)
        return max(0.0, min(until))

    def _put_off(self, now: float, error: EngineUnavailable) -> float:
        """Keep what could not be written, and try again a little later."""
        wait = RETRY_DATABASE[min(self._failures, len(RETRY_DATABASE) - 1)]
        if not self._failures:
            log.write(
                logging.ERROR,
                "database_unavailable",
                "%s: %s. The worker goes on trying; finished jobs are kept in memory until then",
                type(error).__name__,
                error,
            )
        self._failures += 1
        self._look = True
        self._not_before = now + wait
        return wait
