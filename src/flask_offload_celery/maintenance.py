"""A thread in a worker's main process: due jobs, lost messages, dead workers, schedules, pruning.

Each worker has one. Every step is a script that gives a piece of work to one of them only.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from flask_offload.engine_api import ScheduleSpec, log_event, log_schedule_fired
from flask_offload.errors import EngineUnavailable

from .connections import Connections
from .recovery import BY_FORCE, Recovery
from .scheduler import next_tick, tick
from .worker_identity import WorkerIdentity

ROUND: Final = 0.5
"""Seconds between two rounds, at most."""
RECOVER_EVERY: Final = 1.0
SWEEP_EVERY: Final = 5.0
PRUNE_EVERY: Final = 5.0
BATCH: Final = 200
"""Jobs that one round sends messages of; a full one is followed by the next at once."""
PATIENCE: Final = 5.0
"""Seconds after which another worker sends the messages that this one took and could not send."""
OVERTAKEN: Final = 5.0
UNSEEN: Final = 10.0
"""A message is lost when one that was sent OVERTAKEN seconds later has been claimed, or when the
queue is empty UNSEEN seconds after it was sent."""


class MaintenanceThread:
    """every: seconds between two rounds at most. after_round: called at the end of each round."""

    def __init__(self, connections: Connections, identity: WorkerIdentity) -> None:
        self.every = ROUND
        self.recovery = Recovery(connections, identity)
        self.schedules: Sequence[ScheduleSpec] = ()
        self.after_round: Callable[[], None] = lambda: None
        self._connections = connections
        self._host = connections.host
        self._identity = identity
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="offload-maintenance", daemon=True)
        self._next: dict[str, float] = {"prune": time.monotonic() + PRUNE_EVERY}
        self._next_tick = 0.0
        self._failures = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; jobs of this worker are put back."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        with contextlib.suppress(EngineUnavailable):  # otherwise another worker recovers them
            self.recovery.handle_notes()
            self.recovery.leave()

    # --- the loop ---

    def _work(self) -> None:
        wait = 0.0
        while not self._ending.wait(wait):
            try:
                wait = self._round()
                if self._failures:
                    log_event(logging.WARNING, "records_back", "Redis can be used again")
                    self._failures = 0
            except EngineUnavailable as error:
                if not self._failures:
                    log_event(logging.ERROR, "records_unavailable", "%s", error)
                self._failures += 1
                wait = 1.0
            except Exception:  # a bug must not end the maintenance
                logging.getLogger("flask_offload").exception("a round of the maintenance failed")
                wait = 1.0

    def _round(self) -> float:
        """Do what is due; the seconds until the next round."""
        clock, identity = self._host.clock(), self._identity
        send, stop, due = self._connections.store.run(
            "round", identity.id, identity.describe(), clock, PATIENCE, BATCH
        )
        if send:
            self._connections.send_again(send)
        for job_id, how in zip(stop[::2], stop[1::2], strict=True):
            if int(how) == BY_FORCE:
                self.recovery.kill(job_id)
        self.recovery.find_lost()
        self.recovery.handle_notes()
        if self._is_time("recover", RECOVER_EVERY):
            self.recovery.recover()
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
        """Find lost messages: those of a worker that died after it had taken them from the broker,
        and those of a broker that has lost its data."""
        store = self._connections.store
        lanes = sorted(store.ask("SMEMBERS", "lanes"))
        if not lanes:
            return
        before = clock - OVERTAKEN
        old = store.ask_all([("ZCOUNT", f"sent:{lane}", "-inf", before) for lane in lanes])
        candidates = {
            lane: lane.rpartition("|")[0] for lane, count in zip(lanes, old, strict=True) if count
        }
        try:
            empty = {
                name: self._connections.broker.depth(name) == 0 for name in set(candidates.values())
            }
        except EngineUnavailable:
            return  # Celery itself logs it and tries again
        for lane, name in candidates.items():
            arguments = (lane, clock, OVERTAKEN, UNSEEN, int(empty[name]), BATCH)
            if lost := store.run("sweep", *arguments):
                message = "%d messages of the queue %s were lost, and are sent again"
                log_event(logging.WARNING, "messages_lost", message, lost, name)

    def _prune(self, clock: float) -> None:
        """Delete jobs whose retention time is over, in batches that don't block Redis long."""
        most = self._host.config.keep_count
        if self._connections.store.run("prune", clock, most, BATCH) == BATCH:
            self._next["prune"] = 0.0

    def _tick(self, clock: float) -> None:
        if not self.schedules or self._identity.is_draining or clock < self._next_tick:
            return
        for spec in self.schedules:
            for job in tick(self._connections, spec, clock):
                log_schedule_fired(spec.name, job.id, job.task)
        # never more than a minute ahead, as the clock may be set forward
        times = [next_tick(self._connections, spec, clock) for spec in self.schedules]
        self._next_tick = min([clock + 60.0, *(at for at in times if at is not None)])
