"""The part of a worker that talks to the store: claims for its pool, records what the pool reports,
and does the periodic work: due jobs, schedules, dead workers, retention.

It has no clock or wait of its own: its owner calls `turn` whenever the store notifies, the pool has
events, or the time that the last `turn` asked for is over.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence

from ..engines.schedules import ScheduleSpec
from ..engines.store import Store
from ..errors import EngineUnavailable
from ..jobs import log
from ..jobs.attempt import Report, latest
from ..jobs.new_job import QUARANTINED
from ..payload.spool import Spool
from .crash_cooldown import CrashCooldown
from .pool import Events, Pool
from .programs import kill_programs_of

POLL = 1.0
"""Seconds between two looks at the store without a notification: the safety net."""
RECOVER_EVERY = 1.0
MAINTENANCE_EVERY = 5.0
URGENT_MAINTENANCE_EVERY = 3.0
"""The same while the store asks for it, as when a reader keeps the write-ahead log long."""
ORPHANED_AFTER = 3600.0
"""Seconds after which a spooled file that no job refers to goes: its enqueue was cut short."""
UNKNOWN_DELAY = 5.0
"""Seconds for which a job is left alone whose task this app doesn't have: during a deploy, another
worker may have it."""
LOOK_AT_CLOCK = 60.0
"""Seconds between two looks at the schedules, whatever the next time is: the clock may be set."""
RETRY_DATABASE = (0.1, 0.3, 1.0)
"""Seconds to wait after the first, second, and every further failure of the database."""


class Dispatcher:
    """Moves jobs between a store and a pool. It claims nothing more once `is_draining`."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        *,
        schedules: Sequence[ScheduleSpec] = (),
        spool: Spool | None = None,
    ) -> None:
        self._store = store
        self._pool = pool
        self._schedules = schedules
        self._spool = spool
        self._backlog = Events()  # what could not be written yet
        self._cooldown = CrashCooldown()
        self._waits_for_cooldown = False
        self._look = True
        self._due_at: float | None = None
        self._failures = 0
        self._not_before = 0.0
        self._next_poll = self._next_recovery = 0.0
        self._next_maintenance = time.monotonic() + 1.0
        self._next_tick = self._tick_by = 0.0
        self.is_draining: bool = False
        self.is_asked_to_stop: bool = False
        self._has_found_nothing = False

    @property
    def is_idle(self) -> bool:
        """Whether the last claim, with capacity in all lanes, found nothing, and nothing is due."""
        return self._has_found_nothing and not self._is_due

    def look_for_dead(self) -> None:
        """Another worker has ended: recover its jobs in the next turn."""
        self._next_recovery = 0.0

    def is_due_within(self, seconds: float) -> bool:
        """Whether a job that has to wait, for a retry, its time or its rate, may soon run."""
        return self._due_at is not None and self._due_at <= self._store.clock() + seconds

    @property
    def has_unwritten(self) -> bool:
        """Whether outcomes wait for a database that can't be written."""
        return self._backlog.is_unwritten

    def turn(self, *, is_notified: bool = False) -> float:
        """Do what there is to do; the seconds after which to call again at the latest.

        is_notified: whether the store has changed.
        """
        self._look |= is_notified
        if is_notified and not self._pool.holds:
            self.step()  # this enqueue waits for nothing else, and the pool has nothing to report
        events, wait = self._pool.poll()
        self._take(events)
        return min(wait, self.step())

    def drain(self) -> None:
        """Claim nothing more, and let the pool give back what has not started."""
        self.is_draining = True
        with contextlib.suppress(EngineUnavailable):
            self._store.set_stopping()
        self._pool.drain()

    def step(self) -> float:
        """Work with the store; the seconds after which to call again at the latest."""
        now = time.monotonic()
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

    def _take(self, events: Events) -> None:
        self._backlog.add(events)
        self._look |= events.has_new_capacity
        if events.has_crash:
            self._cooldown.note(time.monotonic())

    def _work(self, now: float) -> float:
        if now >= self._next_poll:
            self._next_poll = now + POLL
            self._look |= self._store.has_changed()
            if self._store.is_maintenance_urgent():
                self._next_maintenance = min(self._next_maintenance, now + URGENT_MAINTENANCE_EVERY)
        self._recover(now)
        self._look |= self._waits_for_cooldown and not self._cooldown.left(now)
        look = self._look
        self._tick(now)
        self._promote()
        self._write_reports()
        if self._backlog.outcomes or self._look:
            self._exchange()  # before all that can wait: a job may have been enqueued just now
            self._due_at = self._store.next_due()  # a retry, a rate, or an enqueue may have set it
        if look:
            self._cancel()
        self._maintenance(now)
        return self._wait(now)

    def _cancel(self) -> None:
        if self._pool.holds:
            for seq, attempt, force in self._store.cancellations():
                self._pool.cancel(seq, attempt, force=force)

    def _recover(self, now: float) -> None:
        if now < self._next_recovery:
            return
        self._next_recovery = now + RECOVER_EVERY
        self.is_asked_to_stop = self._store.is_asked_to_stop()
        for worker, jobs in self._store.recover(before=kill_programs_of):
            self._look = True
            self._cooldown.note(now)
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
        return self._due_at is not None and self._due_at <= self._store.clock()

    def _promote(self) -> None:
        while self._is_due:
            self._store.promote()
            self._look = True
            self._due_at = self._store.next_due()

    def _tick(self, now: float) -> None:
        clock = self._store.clock()
        if not self._schedules or self.is_draining:
            return
        if clock < self._next_tick and now < self._tick_by:
            return
        for spec in self._schedules:
            for job in self._store.tick(spec):
                self._look = True
                log.schedule_fired(spec.name, job.id, job.task)
        times = [self._store.next_tick(spec) for spec in self._schedules]
        self._next_tick = min((time for time in times if time is not None), default=math.inf)
        self._tick_by = now + LOOK_AT_CLOCK

    def _write_reports(self) -> None:
        backlog = self._backlog
        if backlog.reports:
            reports, backlog.reports = backlog.reports, []
            self._report(reports)
        if backlog.unstarted:
            self._store.give_back(backlog.unstarted)
            backlog.unstarted = []
            self._look = True
        if backlog.unknown:
            self._store.give_back(backlog.unknown, delay=UNKNOWN_DELAY)
            self._look = True  # a burst ends when nothing but these is left
            self._due_at = self._store.next_due()
            for name in sorted({claim.task for claim in backlog.unknown}):
                message = "no task %s in this app: its jobs wait for a worker that has it"
                log.write(logging.WARNING, "task_unknown", message, name, task=name)
            backlog.unknown = []

    def _report(self, reports: list[Report]) -> None:
        reports = latest(reports)
        try:
            self._store.report(reports)
        except EngineUnavailable:
            self._backlog.reports = reports + self._backlog.reports
            raise
        except Exception as error:  # progress is not worth a worker
            message = "progress can't be recorded: %s"
            log.write(logging.ERROR, "report_refused", message, repr(error))

    def _exchange(self) -> None:
        """Write outcomes and claim more, in one transaction."""
        self._look = False
        capacity = {} if self.is_draining else dict(self._pool.capacity())
        full = [lane for lane, count in capacity.items() if not count]
        self._waits_for_cooldown = (
            QUARANTINED in capacity and self._cooldown.left(time.monotonic()) > 0
        )
        if self._waits_for_cooldown:
            capacity[QUARANTINED] = 0
        wanted = sum(capacity.values())
        if not self._backlog.outcomes and not wanted:
            return
        exchange = self._store.exchange(self._backlog.outcomes, capacity)
        self._pool.acknowledge(self._backlog.outcomes)
        self._backlog.outcomes = []
        if full:  # the outcomes had places, which may have been the last ones
            self._look = any(self._pool.capacity()[lane] for lane in full)
        if exchange.claims:
            self._pool.submit(exchange.claims)
        self._has_found_nothing = all(capacity.values()) and not exchange.claims
        if exchange.stray_files and self._spool is not None:
            self._spool.remove(exchange.stray_files)
        for late in exchange.refused:
            log.write(
                logging.WARNING,
                "outcome_refused",
                "an outcome came too late and was not written: job number %d, attempt %d, %s",
                late.seq,
                late.attempt,
                late.ending,
            )

    def _maintenance(self, now: float) -> None:
        if now < self._next_maintenance:
            return
        pruned = self._store.prune()
        if self._spool is not None:
            self._spool.remove(pruned.files)
            if not pruned.has_more:
                self._spool.sweep(self._store.known_files(), ORPHANED_AFTER)
        # in small batches, so that an enqueue in between never waits long
        is_urgent = self._store.is_maintenance_urgent()
        pause = URGENT_MAINTENANCE_EVERY if is_urgent else MAINTENANCE_EVERY
        self._next_maintenance = now + (0.02 if pruned.has_more else pause)

    def _wait(self, now: float) -> float:
        if self._look:
            return 0.0
        until = [self._next_poll - now, self._next_recovery - now, self._next_maintenance - now]
        clock = self._store.clock()
        if self._waits_for_cooldown:
            until.append(self._cooldown.left(now))
        if self._due_at is not None:
            until.append(self._due_at - clock)
        if self._schedules and not self.is_draining:
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
        for seq, attempt in self._store.lapsed():
            self._pool.cancel(seq, attempt, force=True)
        self._not_before = now + wait
        return wait
