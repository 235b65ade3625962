"""A crew of child processes: hands jobs out, watches over them, replaces those that die."""

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

from ..engines.sqlite.worker_locks import Slots
from ..jobs import log
from ..jobs.attempt import Claim, Outcome, Report
from ..jobs.new_job import ALONE, THREADS
from .children import (
    MUTE_AFTER,
    RECALL_AFTER,
    Child,
    Stop,
    how_it_died,
    last_rites,
    obituaries,
    overdue,
    room_of,
    send_signal,
    unjudged,
)
from .dispatcher import News
from .fork import Starts, fork_child
from .messages import (
    Begin,
    Cancel,
    Crashed,
    Done,
    Drain,
    Ended,
    FromChild,
    Hello,
    ImportFailed,
    Judge,
    Recall,
    Returned,
    Run,
    WorkerSettings,
)


class Processes:
    """The crew of a supervisor. It has no thread and no connection when it forks.

    processes, threads, async_concurrency: None takes the app's setting. load_app: imports the app,
    in the child. before_fork: lets go of what must not cross a fork; in_child: closes the
    supervisor's descriptors in the child.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        *,
        processes: int | None,
        threads: int | None,
        async_concurrency: int | None,
        load_app: Callable[[], Flask],
        before_fork: Callable[[], None],
        in_child: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._processes = processes
        self._threads = threads
        self._async_concurrency = async_concurrency
        self._load_app = load_app
        self._before_fork = before_fork
        self._in_child = in_child
        self._children: list[Child] = []
        self._news = News()
        self._judgements: list[Judge] = []
        self._obituaries: list[Crashed | Ended] = []  # that no child has been told of
        self._unsettled: dict[int, int] = {}  # seq -> ticket
        self._starts = Starts()
        self._is_draining = False
        self._is_ending = False
        self.slots: Slots | None = None
        self.settings: WorkerSettings | None = None
        """What the first child that greeted told of the app."""
        self.import_failure: str | None = None

    # --- for the dispatcher (see Crew) ---

    def room(self) -> Mapping[str, int]:
        """How many more jobs each lane takes."""
        left = self.slots.room if self.slots is not None else 0
        return room_of(self._children, self._process_count, left)

    def hand_out(self, claims: Sequence[Claim]) -> None:
        """Give each job to the child with the most room for it."""
        assert self.slots is not None
        packets: dict[Child, list[Claim]] = {}
        for claim in claims:
            child = self._child_for(claim.lane)
            claim.ticket = self.slots.take(claim.seq)
            if not child.held:
                child.last_news = time.monotonic()
            child.add(claim)
            packets.setdefault(child, []).append(claim)
        for child, packet in packets.items():
            child.was_recalled = False
            child.channel.send(Run(packet))

    def news(self) -> News:
        """What the children told since the last call."""
        news, self._news = self._news, News()
        return news

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """These are written down."""
        for outcome in outcomes:
            ticket = self._unsettled.pop(outcome.seq, None)
            if ticket is not None and self.slots is not None:
                self.slots.give_back(ticket)

    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        """Tell the job to stop; with `force`, kill its child."""
        for child in self._children:
            held = child.held.get(seq)
            if held is None or held.claim.attempt != attempt:
                continue
            if force and self._started_at(held.claim) is not None:
                self._kill(child, Stop(seq, None))
            elif not held.told_to_stop:
                held.told_to_stop = True
                child.channel.send(Cancel(seq, attempt))

    @property
    def holds(self) -> int:
        """How many jobs the children have, and how many wait to be judged."""
        return sum(len(child.held) + len(child.judging) for child in self._children) + len(
            self._judgements
        )

    # --- for the supervisor ---

    def start(self) -> None:
        """Start the first child; the others follow when it has told how many there should be."""
        self._spawn(isolated=False)

    def begin(self, slots: Slots) -> None:
        """Take jobs from now on; `slots` is where they are noted."""
        self.slots = slots
        self._news.more_room = True
        for child in self._children:
            child.channel.send(Begin(str(slots.path)))

    def poll(self) -> float:
        """Hear the children, see who died, replace them; seconds until the next call is needed."""
        for child in list(self._children):
            self._hear(child)
            self._reap(child)
        now = time.monotonic()
        self._stop_mute(now)
        self._stop_overdue(now)
        self._tell_of_the_dead()
        self._recall(now)
        return self._replace(now)

    def drain(self) -> None:
        """Start nothing more: take back what has not started, end what can be resumed."""
        self._is_draining = True
        for child in self._children:
            child.channel.send(Recall())
            child.channel.send(Drain())

    def end(self) -> None:
        """Stop all children now. What they had becomes news: put back, or interrupted."""
        self._is_draining = self._is_ending = True
        for child in self._children:
            send_signal(child.pid, signal.SIGKILL)
        for child in list(self._children):
            _, status = os.waitpid(child.pid, 0)
            self._hear(child)
            self._bury(child, status)
        self._news.outcomes += map(unjudged, self._judgements)
        self._judgements.clear()
        for obituary in self._obituaries:  # for the log of this process at least
            obituary.announce(None)

    def close(self) -> None:
        """Let idle children go, and wait for them."""
        for child in self._children:
            child.channel.close_later()
        deadline = time.monotonic() + 5.0
        for child in self._children:
            while os.waitpid(child.pid, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    send_signal(child.pid, signal.SIGKILL)
                time.sleep(0.005)
        self._children.clear()

    # --- room ---

    @property
    def _process_count(self) -> int:
        return self._processes or (self.settings.processes if self.settings else 1)

    @property
    def _wants_isolated(self) -> bool:
        """Whether a child should be made ready for the next job that runs alone."""
        return (
            self.settings is not None
            and self.settings.isolates
            and not any(child.isolated and not child.is_spent for child in self._children)
        )

    def _child_for(self, lane: str) -> Child:
        if lane not in ALONE:
            ready = [child for child in self._children if child.is_ready]
            room = attrgetter("thread_room" if lane == THREADS else "async_room")
            return max(ready, key=room)
        for child in self._children:
            if child.isolated and not child.is_spent and not child.held:
                return child
        return self._spawn(isolated=True)

    # --- hearing ---

    def _hear(self, child: Child) -> None:
        for message in child.channel.receive():
            match cast("FromChild", message):
                case Hello(settings):
                    child.settings = settings
                    self.settings = self.settings or settings
                    self._starts.succeeded()
                    self._news.more_room = True
                case ImportFailed(reason):
                    self.import_failure = reason
                    if self.settings is not None:
                        text = "the app can't be imported again for a new process: %s"
                        log.write(logging.ERROR, "import_failed", text, reason)
                case Done(reports, outcomes, unknown):
                    self._take(child, reports, outcomes, unknown)
                case Returned(seqs):
                    self._news.unstarted += self._let_go(child, seqs)
        child.channel.flush()
        self._watch(child)

    def _take(
        self, child: Child, reports: list[Report], outcomes: list[Outcome], unknown: list[int]
    ) -> None:
        child.last_news = time.monotonic()
        self._news.reports += reports
        self._news.unknown += self._let_go(child, unknown)
        for outcome in outcomes:
            if outcome.seq in child.judging:
                del child.judging[outcome.seq]
            else:
                lane = child.held[outcome.seq].claim.lane
                if lane == THREADS:
                    took = outcome.finished_at - outcome.started_at
                    child.average += 0.2 * (max(took, 0.0) - child.average)
                self._await_settling(child.held[outcome.seq].claim)
                child.remove(outcome.seq)
            self._news.outcomes.append(outcome)
        if child.isolated and (outcomes or unknown):
            child.is_spent = True
            child.channel.close_later()

    def _await_settling(self, claim: Claim) -> None:
        """Keep the job's slot until its outcome is written down: if this process dies before, the
        next must know that the job had started."""
        self._unsettled[claim.seq] = claim.ticket

    def _let_go(self, child: Child, seqs: Iterable[int]) -> list[Claim]:
        """Forget jobs that never started."""
        claims = []
        for seq in seqs:
            claim = child.remove(seq)
            if claim is not None:
                assert self.slots is not None
                self.slots.give_back(claim.ticket)
                claims.append(claim)
        return claims

    def _watch(self, child: Child) -> None:
        """Select on what this child's channel waits for."""
        if child.channel.is_closed:
            if child.is_watched:
                self._selector.unregister(child.channel)
                child.is_watched = False
        elif child.channel.wants_write is not child.watches_write:
            child.watches_write = child.channel.wants_write
            writing = selectors.EVENT_WRITE if child.watches_write else 0
            self._selector.modify(child.channel, selectors.EVENT_READ | writing)

    # --- stopping by force ---

    def _started_at(self, claim: Claim) -> float | None:
        return None if self.slots is None else self.slots.started_at(claim.ticket)

    def _stop_mute(self, now: float) -> None:
        for child in self._children:
            if child.channel.is_closed:
                child.mute_since = child.mute_since or now
                if now > child.mute_since + MUTE_AFTER:
                    child.was_mute = True
                    send_signal(child.pid, signal.SIGKILL)

    def _stop_overdue(self, now: float) -> None:
        for child in self._children:
            stop = overdue(child, self._started_at, now)
            if stop is not None:
                self._kill(child, stop)

    def _kill(self, child: Child, stop: Stop) -> None:
        if child.stop is None:
            child.stop = stop
            send_signal(child.pid, signal.SIGKILL)

    def _tell_of_the_dead(self) -> None:
        """Let a child judge what was stopped, and tell the app's receivers of what ended with its
        process, once there is a child that can."""
        ready = next((child for child in self._children if child.is_ready), None)
        if ready is None:
            return
        for judge in self._judgements:
            ready.judging[judge.claim.seq] = judge
            ready.channel.send(judge)
        for obituary in self._obituaries:
            ready.channel.send(obituary)
        self._judgements.clear()
        self._obituaries.clear()

    def _recall(self, now: float) -> None:
        for child in self._children:
            if child.is_stalled(now):
                child.was_recalled = True
                child.average = max(child.average, RECALL_AFTER)
                child.channel.send(Recall())

    # --- births and deaths ---

    def _replace(self, now: float) -> float:
        """Bring the crew to its full number; seconds until the next look at it."""
        wait = 1.0
        if self._is_draining or (self.settings is None and self.import_failure is not None):
            return wait
        # the first child tells how many there should be
        wanted = self._process_count if self.settings is not None else 1
        missing = wanted - sum(not child.isolated for child in self._children)
        pause = self._starts.pause(now)
        if pause:
            wait = min(wait, pause)
        else:
            for _ in range(missing):
                self._spawn(isolated=False)
            if self._wants_isolated:
                self._spawn(isolated=True)
        if self.settings is not None and self.settings.timeouts and self.holds:
            wait = min(wait, 0.1)
        if any(child.by_lane[THREADS] > 1 for child in self._children):
            wait = min(wait, RECALL_AFTER)
        return wait

    def _spawn(self, *, isolated: bool) -> Child:
        self._before_fork()
        threads = 1 if isolated else self._threads
        pid, channel = fork_child(self._in_child_too, self._load_app, threads)
        child = Child(pid, channel, isolated, threads, self._async_concurrency)
        self._children.append(child)
        if self.slots is not None:  # jobs may be sent at once; it reads them when it is up
            channel.send(Begin(str(self.slots.path)))
        self._selector.register(channel, selectors.EVENT_READ)
        return child

    def _in_child_too(self) -> None:
        """In a new child: close what belongs to the supervisor."""
        for sibling in self._children:
            sibling.channel.close()
        self._in_child()

    def _reap(self, child: Child) -> None:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            self._hear(child)  # what it said before it died
            self._bury(child, status)

    def _bury(self, child: Child, status: int) -> None:
        """Take a dead child's jobs back, each as it deserves."""
        self._children.remove(child)
        child.channel.is_closed = True
        self._watch(child)
        child.channel.close()
        self._judgements += child.judging.values()
        if not (child.isolated or child.stop or self._is_ending):
            self._news.unrest = True
        reason = how_it_died(status, was_mute=child.was_mute)
        if child.settings is None and not self._is_ending:
            self._starts.failed(time.monotonic())
            if self.settings is None and self._starts.is_hopeless and not self.import_failure:
                self.import_failure = f"the process that did so died ({reason})"
        for held in list(child.held.values()):
            self._bury_job(child, held.claim, reason)

    def _bury_job(self, child: Child, claim: Claim, reason: str) -> None:
        started = self._started_at(claim)
        if started is None:
            self._news.unstarted += self._let_go(child, [claim.seq])
            return
        self._await_settling(claim)
        child.remove(claim.seq)
        verdict = last_rites(claim, started, child.stop, reason, is_ending=self._is_ending)
        if isinstance(verdict, Judge):
            self._judgements.append(verdict)
            return
        self._news.outcomes.append(verdict)
        self._obituaries += obituaries(claim, verdict, reason)
