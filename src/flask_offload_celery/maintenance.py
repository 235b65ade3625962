"""The thread in a worker's main process that does the books: due jobs, lost messages, dead workers.

Each worker has one, and all do the same: every step is a script that gives its work to one of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from flask_offload.engines.schedules import ScheduleSpec
from flask_offload.errors import EngineUnavailable
from flask_offload.jobs import log

from .connections import Office
from .recovery import BY_FORCE, Losses
from .scheduler import next_tick, tick
from .worker_identity import Seat

ROUND: Final = 0.5
"""Seconds between two rounds, at most."""
RECOVER_EVERY: Final = 1.0
SWEEP_EVERY: Final = 5.0
PRUNE_EVERY: Final = 5.0
BATCH: Final = 200
"""Jobs that one round sends messages of; a full one is followed by the next at once."""
PATIENCE: Final = 5.0
"""Seconds after which others send the messages that we took on and could not send."""
OVERTAKEN: Final = 5.0
UNSEEN: Final = 10.0
"""A message is lost when one that was sent OVERTAKEN seconds later has been claimed, or when the
queue is empty UNSEEN seconds after it was sent."""


class Clerk:
    """See the module. after_round: what else the worker wants to do now and then."""

    def __init__(self, office: Office, seat: Seat) -> None:
        self.every = ROUND
        self.losses = Losses(office, seat)
        self.schedules: Sequence[ScheduleSpec] = ()
        self.after_round: Callable[[], None] = lambda: None
        self._office = office
        self._host = office.host
        self._seat = seat
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="offload-clerk", daemon=True)
        self._next: dict[str, float] = {"prune": time.monotonic() + PRUNE_EVERY}
        self._next_tick = 0.0
        self._failures = 0

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is still in our hands goes back."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        with contextlib.suppress(EngineUnavailable):  # else others find us gone
            self.losses.settle()
            self.losses.leave()

    # --- the loop ---

    def _work(self) -> None:
        wait = 0.0
        while not self._ending.wait(wait):
            try:
                wait = self._round()
                if self._failures:
                    log.write(logging.WARNING, "records_back", "Redis can be used again")
                    self._failures = 0
            except EngineUnavailable as error:
                if not self._failures:
                    log.write(logging.ERROR, "records_unavailable", "%s", error)
                self._failures += 1
                wait = 1.0
            except Exception:  # a bug must not end the worker's care for its jobs
                log.logger.exception("the clerk of the worker stumbled, and goes on")
                wait = 1.0

    def _round(self) -> float:
        """Do what there is to do; the seconds until the next round."""
        clock, seat = self._host.clock(), self._seat
        send, stop, due = self._office.ledger.run(
            "round", seat.id, seat.describe(), clock, PATIENCE, BATCH
        )
        if send:
            self._office.send_again(send)
        for job_id, how in zip(stop[::2], stop[1::2], strict=True):
            if int(how) == BY_FORCE:
                self.losses.kill(job_id)
        self.losses.look_around()
        self.losses.settle()
        if self._is_time("recover", RECOVER_EVERY):
            self.losses.recover()
        if self._is_time("sweep", SWEEP_EVERY):
            self._sweep(clock)
        if self._is_time("prune", PRUNE_EVERY):
            self._prune(clock)
        self._tick(clock)
        self.after_round()
        until_due = float(due[1]) - clock if due else self.every
        until_tick = self._next_tick - clock if self.schedules else self.every
        return 0.0 if len(send) == BATCH else max(0.02, min(self.every, until_due, until_tick))

    # --- now and then ---

    def _is_time(self, name: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._next.get(name, 0.0):
            return False
        self._next[name] = now + every
        return True

    def _sweep(self, clock: float) -> None:
        """Find lost messages: those of a worker that died with them in hand, of a broker that was
        emptied, of a Redis client that died between taking a message and noting that it has."""
        ledger = self._office.ledger
        lanes = sorted(ledger.ask("SMEMBERS", "lanes"))
        if not lanes:
            return
        before = clock - OVERTAKEN
        old = ledger.ask_all([("ZCOUNT", f"sent:{lane}", "-inf", before) for lane in lanes])
        suspects = {
            lane: lane.rpartition("|")[0] for lane, count in zip(lanes, old, strict=True) if count
        }
        try:
            empty = {name: self._office.broker.depth(name) == 0 for name in set(suspects.values())}
        except EngineUnavailable:
            return  # Celery itself tells of it and goes on trying
        for lane, name in suspects.items():
            arguments = (lane, clock, OVERTAKEN, UNSEEN, int(empty[name]), BATCH)
            if lost := ledger.run("sweep", *arguments):
                message = "%d messages of the queue %s were lost, and are sent again"
                log.write(logging.WARNING, "messages_lost", message, lost, name)

    def _prune(self, clock: float) -> None:
        """Forget jobs whose time is over, in bites, so that nobody waits long for Redis."""
        most = self._host.config.keep_count
        if self._office.ledger.run("prune", clock, most, BATCH) == BATCH:
            self._next["prune"] = 0.0

    def _tick(self, clock: float) -> None:
        if not self.schedules or self._seat.is_draining or clock < self._next_tick:
            return
        for spec in self.schedules:
            for job in tick(self._office, spec, clock):
                log.schedule_fired(spec.name, job.id, job.task)
        # never more than a minute ahead, as the clock may be set forward
        times = [next_tick(self._office, spec, clock) for spec in self.schedules]
        self._next_tick = min([clock + 60.0, *(at for at in times if at is not None)])
