"""A pool of child processes: submits jobs, watches the processes, replaces those that die."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import cast

from flask import Flask

from ..engines.slots import Slots
from ..jobs import log
from ..jobs.attempt import Claim, Outcome, Report
from ..jobs.new_job import ALONE, THREADS
from .child import EXIT_TIMEOUT
from .child_handle import (
    RECALL_AFTER,
    UNRESPONSIVE_AFTER,
    ChildHandle,
    PoolSize,
    Stop,
    capacity_of,
    overdue,
    send_signal,
)
from .exit_outcomes import exit_events, exit_outcome, exit_reason, unresolved
from .fork import Starts, fork_child
from .messages import (
    Begin,
    Cancel,
    Crashed,
    Done,
    Drain,
    Ended,
    FromChild,
    ImportFailed,
    Ready,
    Recall,
    ResolveTimeout,
    Returned,
    Run,
    WorkerSettings,
)
from .pool import Events, Pool
from .programs import kill_group, reap_orphans


class ProcessPool(Pool):
    """The child processes of a supervisor. It has no thread and no connection when it forks.

    load_app: imports the app, in the child. before_fork: closes what must not cross a fork;
    in_child: closes the supervisor's descriptors in the child.
    """

    def __init__(
        self,
        size: PoolSize,
        *,
        load_app: Callable[[], Flask],
        before_fork: Callable[[], None],
        in_child: Callable[[], None],
    ) -> None:
        super().__init__()
        self._size = size
        self._load_app = load_app
        self._before_fork = before_fork
        self._in_child = in_child
        self._selector = selectors.DefaultSelector()  # of the channels; itself one descriptor
        self._children: list[ChildHandle] = []
        self._timeouts: list[ResolveTimeout] = []
        self._exit_events: list[Crashed | Ended] = []  # not sent to a child yet
        self._starts = Starts()
        self._is_draining = False
        self._is_ending = False
        self.settings: WorkerSettings | None = None
        """The app's settings, as the first child that imported it has reported them."""
        self.import_failure: str | None = None

    # --- for the dispatcher ---

    def capacity(self) -> Mapping[str, int]:
        """How many more jobs each lane takes."""
        places = self._slots.free if self._slots is not None else 0
        return capacity_of(self._children, self._process_count, places)

    def submit(self, claims: Sequence[Claim]) -> None:
        """Send each job to the child with the most capacity for it."""
        packets: dict[ChildHandle, list[Claim]] = {}
        for claim in claims:
            child = self._child_for(claim.lane)
            self._take_slot(claim)
            if not child.held:
                child.last_event = time.monotonic()
            child.add(claim)
            packets.setdefault(child, []).append(claim)
        for child, packet in packets.items():
            child.was_recalled = False
            child.channel.send(Run(packet))

    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        """Ask the job to stop; with `force`, kill its process."""
        for child in self._children:
            held = child.held.get(seq)
            if held is None or held.claim.attempt != attempt:
                continue
            if force and self._started_at(held.claim) is not None:
                self._kill(child, Stop(seq, None))
            elif not held.was_cancelled:
                held.was_cancelled = True
                child.channel.send(Cancel(seq, attempt))

    @property
    def holds(self) -> int:
        """How many jobs the children have, and how many wait for `ResolveTimeout`."""
        return sum(len(child.held) + len(child.resolving) for child in self._children) + len(
            self._timeouts
        )

    # --- for the supervisor ---

    def fileno(self) -> int:
        """A descriptor that is readable when a child's channel is."""
        return self._selector.fileno()

    def start(self) -> None:
        """Start the first child; the others follow when it has reported how many are wanted."""
        self._spawn(isolated=False)

    def begin(self, slots: Slots) -> None:
        """Take jobs from now on; `slots` is where they are noted."""
        self._slots = slots
        self._events.has_new_capacity = True
        for child in self._children:
            child.channel.send(Begin(str(slots.path)))

    def poll(self) -> tuple[Events, float]:
        """Receive from the children, reap and replace those that died."""
        for child in list(self._children):
            self._receive(child)
            self._reap(child)
        reap_orphans([child.pid for child in self._children])
        now = time.monotonic()
        self._stop_unresponsive(now)
        self._stop_overdue(now)
        self._forward_exits()
        self._recall(now)
        wait = self._replace(now)
        return self._take_events(), wait

    def drain(self) -> None:
        """Start nothing more: take back what has not started, end what can be resumed."""
        self._is_draining = True
        for child in self._children:
            child.channel.send(Recall())
            child.channel.send(Drain())

    def stop(self) -> None:
        """Let idle children end; kill those that still run jobs."""
        if self.holds:
            self.kill()
        else:
            self._close_all()

    def kill(self) -> None:
        """Kill all children. What they held is given back, or interrupted."""
        self._is_draining = self._is_ending = True
        for child in self._children:
            send_signal(child.pid, signal.SIGKILL)
        for child in list(self._children):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            self._reap(child)
        self._events.outcomes += map(unresolved, self._timeouts)
        self._timeouts.clear()
        for event in self._exit_events:  # for the log of this process at least
            event.announce(None)

    def _close_all(self) -> None:
        for child in self._children:
            child.channel.close_later()
        deadline = time.monotonic() + EXIT_TIMEOUT + 1.0
        for child in self._children:
            while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if time.monotonic() > deadline:
                    send_signal(child.pid, signal.SIGKILL)
                time.sleep(0.005)
            kill_group(child.pid)
            os.waitpid(child.pid, 0)
        self._children.clear()

    # --- capacity ---

    @property
    def _process_count(self) -> int:
        return self._size.processes or (
            self.settings.config.worker_processes if self.settings else 1
        )

    @property
    def _wants_isolated(self) -> bool:
        """Whether a child should be made ready for the next job that runs alone."""
        return (
            self.settings is not None
            and self.settings.isolates
            and not any(child.isolated and not child.is_spent for child in self._children)
        )

    def _child_for(self, lane: str) -> ChildHandle:
        if lane not in ALONE:
            ready = [child for child in self._children if child.is_ready]
            capacity = attrgetter("thread_capacity" if lane == THREADS else "async_capacity")
            return max(ready, key=capacity) if len(ready) > 1 else ready[0]
        for child in self._children:
            if child.isolated and not child.is_spent and not child.held:
                return child
        return self._spawn(isolated=True)

    # --- messages ---

    def _receive(self, child: ChildHandle) -> None:
        for message in child.channel.receive():
            match cast("FromChild", message):
                case Ready(settings):
                    child.note_import(settings)
                    self.settings = self.settings or settings
                    self._events.has_new_capacity = True
                case ImportFailed(reason):
                    self.import_failure = reason
                    if self.settings is not None:
                        text = "the app can't be imported again for a new process:"
                        log.write(logging.ERROR, "import_failed", text, details=reason)
                case Done(reports, outcomes, unknown):
                    self._take(child, reports, outcomes, unknown)
                case Returned(seqs):
                    self._events.unstarted += self._forget(child, seqs)
        self._retire(child)
        child.channel.flush()
        child.watch(self._selector)

    def _take(
        self,
        child: ChildHandle,
        reports: list[Report],
        outcomes: list[Outcome],
        unknown: list[int],
    ) -> None:
        child.last_event = time.monotonic()
        self._events.reports += reports
        self._events.unknown += self._forget(child, unknown)
        if outcomes:
            child.finished += len(outcomes)
            self._starts.succeeded()
        for outcome in outcomes:
            if outcome.seq in child.resolving:
                del child.resolving[outcome.seq]
            else:
                claim = child.held[outcome.seq].claim
                if claim.lane == THREADS:
                    took = outcome.finished_at - outcome.started_at
                    child.average += 0.2 * (max(took, 0.0) - child.average)
                self._hold_slot(claim)
                child.remove(outcome.seq)
            self._events.outcomes.append(outcome)
        if child.isolated and (outcomes or unknown):
            child.is_spent = True
            child.channel.close_later()

    def _forget(self, child: ChildHandle, seqs: Iterable[int]) -> list[Claim]:
        """Jobs of this child that never started."""
        claims = (child.remove(seq) for seq in seqs)
        return self._release(claim for claim in claims if claim is not None)

    def _retire(self, child: ChildHandle) -> None:
        """Let a child end once it is idle that has run its number of jobs, or takes its memory."""
        if child.has_aged():
            child.channel.send(Recall())
            message = "process %d is replaced after %d jobs"
            log.write(logging.INFO, "process_replaced", message, child.pid, child.finished)
        if child.is_worn and not (child.is_spent or child.held or child.resolving):
            child.is_spent = True
            child.channel.close_later()

    # --- stopping by force ---

    def _started_at(self, claim: Claim) -> float | None:
        return None if self._slots is None else self._slots.started_at(claim.ticket)

    def _stop_unresponsive(self, now: float) -> None:
        for child in self._children:
            if child.channel.is_closed:
                child.unresponsive_since = child.unresponsive_since or now
                if now > child.unresponsive_since + UNRESPONSIVE_AFTER:
                    child.was_unresponsive = True
                    send_signal(child.pid, signal.SIGKILL)

    def _stop_overdue(self, now: float) -> None:
        for child in self._children:
            stop = overdue(child, self._started_at, now)
            if stop is not None:
                self._kill(child, stop)

    def _kill(self, child: ChildHandle, stop: Stop) -> None:
        if child.stop is None:
            child.stop = stop
            send_signal(child.pid, signal.SIGKILL)

    def _forward_exits(self) -> None:
        """Once a child can: let it apply the retry policy to what was stopped for its timeout, and
        send the app's signals for what ended with its process."""
        ready = next((child for child in self._children if child.is_ready), None)
        if ready is None:
            return
        for timeout in self._timeouts:
            ready.resolving[timeout.claim.seq] = timeout
            ready.channel.send(timeout)
        for event in self._exit_events:
            ready.announce(event)
        self._timeouts.clear()
        self._exit_events.clear()

    def _recall(self, now: float) -> None:
        for child in self._children:
            if child.is_stalled(now):
                child.was_recalled = True
                child.average = max(child.average, RECALL_AFTER)
                child.channel.send(Recall())

    # --- starts and exits ---

    def _replace(self, now: float) -> float:
        """Bring the pool to its full number; seconds until the next look at it."""
        wait = 1.0
        if self._is_draining or (self.settings is None and self.import_failure is not None):
            return wait
        # the first child reports how many there should be
        wanted = self._process_count if self.settings is not None else 1
        missing = wanted - sum(not (child.isolated or child.is_worn) for child in self._children)
        pause = self._starts.pause(now)
        if pause:
            wait = min(wait, pause)
        else:
            for _ in range(missing):
                self._spawn(isolated=False)
            if self._wants_isolated:
                self._spawn(isolated=True)
        if any(child.timeouts for child in self._children):
            wait = min(wait, 0.1)
        if any(child.by_lane[THREADS] > 1 for child in self._children):
            wait = min(wait, RECALL_AFTER)
        return wait

    def _spawn(self, *, isolated: bool) -> ChildHandle:
        self._before_fork()
        threads = 1 if isolated else self._size.threads
        pid, channel, announced = fork_child(
            self._close_in_child, self._load_app, threads, isolated=isolated
        )
        child = ChildHandle(
            *(pid, channel, isolated, threads, self._size.async_concurrency), announced=announced
        )
        self._children.append(child)
        if self._slots is not None:  # jobs may be sent at once; it reads them when it is up
            channel.send(Begin(str(self._slots.path)))
        self._selector.register(channel, selectors.EVENT_READ)
        return child

    def _close_in_child(self) -> None:
        """In a new child: close what belongs to the supervisor."""
        self._selector.close()
        for sibling in self._children:
            sibling.channel.close()
        self._in_child()

    def _reap(self, child: ChildHandle) -> None:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        kill_group(child.pid)  # before it is reaped: until then its pid is not given to another
        _, status = os.waitpid(child.pid, 0)
        self._receive(child)  # what it sent before it died
        self._on_exit(child, status)

    def _on_exit(self, child: ChildHandle, status: int) -> None:
        """A child has ended: decide what happens to each of its jobs."""
        self._children.remove(child)
        child.channel.is_closed = True
        child.watch(self._selector)
        child.channel.close()
        self._timeouts += child.resolving.values()
        self._exit_events[:0] = child.unannounced  # what it had not announced is not lost
        if not (child.isolated or child.is_spent or child.stop or self._is_ending):
            self._events.has_crash = True
        reason = exit_reason(status, was_unresponsive=child.was_unresponsive)
        now = time.monotonic()
        if not self._is_ending and child.has_failed_early(now, self._started_at):
            self._starts.failed(now)
            if self.settings is None and self._starts.is_hopeless and not self.import_failure:
                self.import_failure = f"the process that did so died ({reason})"
        for held in list(child.held.values()):
            self._end_job(child, held.claim, reason)

    def _end_job(self, child: ChildHandle, claim: Claim, reason: str) -> None:
        started = self._started_at(claim)
        if started is None:
            self._events.unstarted += self._forget(child, [claim.seq])
            return
        self._hold_slot(claim)
        child.remove(claim.seq)
        outcome = exit_outcome(claim, started, child.stop, reason, is_ending=self._is_ending)
        if isinstance(outcome, ResolveTimeout):
            self._timeouts.append(outcome)
            return
        self._events.outcomes.append(outcome)
        self._exit_events += exit_events(claim, outcome, reason)
