"""A pool runs the jobs of a worker: in child processes, or in threads of this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..engines.slots import Slots
from ..jobs.attempt import Claim, Outcome, Report


@dataclass
class Events:
    """What has happened in a pool since it was last polled."""

    reports: list[Report] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    unstarted: list[Claim] = field(default_factory=list)
    """Given back without having started."""
    unknown: list[Claim] = field(default_factory=list)
    """Given back because the app has no such task."""
    has_new_capacity: bool = False
    """There is capacity that no outcome accounts for: another process is ready for jobs."""
    has_crash: bool = False
    """A process has died in which jobs run together."""

    @property
    def is_unwritten(self) -> bool:
        """Whether there is something to record in the store."""
        return bool(self.reports or self.outcomes or self.unstarted or self.unknown)

    def add(self, other: Events) -> None:
        """Append later events."""
        self.reports += other.reports
        self.outcomes += other.outcomes
        self.unstarted += other.unstarted
        self.unknown += other.unknown
        self.has_new_capacity |= other.has_new_capacity
        self.has_crash |= other.has_crash


class Pool(ABC):
    """Runs jobs, and reports what happens in `poll`."""

    def __init__(self) -> None:
        self._slots: Slots | None = None
        self._events = Events()
        self._unacknowledged: dict[int, int] = {}  # seq -> place in the table of slots

    # --- for the dispatcher ---

    @abstractmethod
    def capacity(self) -> Mapping[str, int]:
        """How many more jobs each lane takes."""

    @abstractmethod
    def submit(self, claims: Sequence[Claim]) -> None:
        """Run these."""

    @abstractmethod
    def cancel(self, seq: int, attempt: int, *, force: bool) -> None:
        """Stop this attempt at its next checkpoint, or by force. Called again and again until it
        has ended."""

    @property
    @abstractmethod
    def holds(self) -> int:
        """How many jobs it has that are not finished."""

    def acknowledge(self, outcomes: Sequence[Outcome]) -> None:
        """These are recorded in the store: their slots are free."""
        for outcome in outcomes:
            ticket = self._unacknowledged.pop(outcome.seq, None)
            if ticket is not None and self._slots is not None:
                self._slots.give_back(ticket)

    # --- for the worker's loop ---

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that is readable when `poll` has something to report."""

    @abstractmethod
    def poll(self) -> tuple[Events, float]:
        """What happened since the last call, and the seconds after which to call again."""

    @abstractmethod
    def drain(self) -> None:
        """Start nothing more: give back what has not started, end what can be resumed."""

    @abstractmethod
    def stop(self) -> None:
        """End now. What still runs becomes an event of the next `poll`."""

    # --- slots ---

    def _take_slot(self, claim: Claim) -> None:
        assert self._slots is not None
        claim.ticket = self._slots.take(claim.seq)

    def _release(self, claims: Iterable[Claim]) -> list[Claim]:
        """Free the slots of jobs that never started."""
        released = list(claims)
        for claim in released:
            assert self._slots is not None
            self._slots.give_back(claim.ticket)
        return released

    def _hold_slot(self, claim: Claim) -> None:
        """Keep the slot until the outcome is recorded: if this process dies before that, recovery
        must know that the job had started."""
        self._unacknowledged[claim.seq] = claim.ticket

    def _take_events(self) -> Events:
        events, self._events = self._events, Events()
        return events
