"""The samples of one request, as a tree of single calls.

A function that is called 25 times is 25 nodes, so that one long call differs from a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any, NamedTuple

from .activity import Activity
from .stacks import Place, Stack


@dataclass(slots=True)
class Spent:
    """Time, in seconds; `cpu` is the processor's part of it, as far as it is `known`.

    samples: how many stand behind it. proven: the part of it that needs no samples, because the
    same call ran all the time, or a function written in C.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    known: float = 0.0
    samples: int = 0
    proven: float = 0.0

    def add(self, other: Spent) -> None:
        """Add the time of another."""
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.known += other.known
        self.samples += other.samples
        self.proven += other.proven

    def half(self) -> Spent:
        """Half of its time."""
        return Spent(self.seconds / 2, self.cpu / 2, self.known / 2)


class Position(NamedTuple):
    """What a function itself was doing: its place, and the library function it called.

    at: None for the root, which represents everything outside of user code. activity: the kind of
    work that the library did.
    """

    at: Place | None
    inside: str | None
    activity: Activity | None = None


NOT_SEEN = "(not seen)"
_UNSEEN = Position(None, NOT_SEEN)


def _position(stack: Stack) -> Position:
    return Position(stack.at, stack.inside, stack.activity)


@dataclass(slots=True, eq=False)
class CallNode:
    """One call of a user's function. `own`: its time outside of the user functions it called.

    `total` (own time and that of all calls inside) is set once the tree is complete.
    """

    code: CodeType | None
    module: dict[str, Any]
    parent: CallNode | None = None
    site: Place | None = None
    is_direct: bool = False
    by: str | None = None
    is_task: bool = False
    is_job: bool = False
    children: list[CallNode] = field(default_factory=list)
    own: dict[Position, Spent] = field(default_factory=dict)
    total: Spent = field(default_factory=Spent)

    def own_time(self) -> Spent:
        """The sum of `own`."""
        spent = Spent()
        for part in self.own.values():
            spent.add(part)
        return spent

    def callers(self) -> Iterator[CallNode]:
        """This call and those around it, innermost first, without the root."""
        call: CallNode | None = self
        while call is not None and call.code is not None:
            yield call
            call = call.parent


class CallTree:
    """Collects the samples of one request. Its root represents the whole request."""

    def __init__(self) -> None:
        self.root: CallNode = CallNode(None, {})
        self.samples: int = 0
        self._calls: list[CallNode] = []  # callers come before what they call
        self._path: list[tuple[object, CallNode]] = []
        self._last = (self.root, Position(None, None))

    def add(
        self, stack: Stack, between: Spent, held: Spent | None = None, gap: Spent | None = None
    ) -> None:
        """Add a sample.

        between: the time since the last sample; half of it is credited to either stack, because the
        change happened somewhere in between. The time before the first sample is credited to it.
        held: time for which a function written in C held the interpreter; this sample is the first
        to show it. gap: other time for which there should have been samples; it is credited to the
        innermost call that has run since the last one.
        """
        self.samples += 1
        before = self._last
        throughout = self._enter(stack)
        self._last = here = (self._path[-1][1] if self._path else self.root), _position(stack)
        self._credit(before if self.samples > 1 else here, between.half())
        self._credit(here, between.half())
        self._credit(here, Spent(samples=1))
        if held is not None:
            self._credit(here, replace(held, proven=held.seconds))
        if gap is not None:
            is_same = before == here and throughout is here[0]
            there = here if is_same else (throughout, _UNSEEN)
            self._credit(there, replace(gap, proven=gap.seconds))

    def complete(self, rest: Spent, unseen: Spent) -> CallNode:
        """Credit the time after the last sample to it, sum up, and return the root.

        unseen: time in which nothing was sampled.
        """
        self._credit(self._last, rest)
        if unseen.seconds > 0:
            self._credit((self.root, _UNSEEN), unseen)
        self._path = []
        for call in [self.root, *self._calls]:
            call.total = call.own_time()
        for call in reversed(self._calls):
            assert call.parent is not None
            call.parent.total.add(call.total)
        return self.root

    def _enter(self, stack: Stack) -> CallNode:
        """Go to this stack; returns the innermost call that was there before."""
        call, same = self.root, 0
        for seen, (mark, known) in zip(stack.calls, self._path, strict=False):
            if seen.mark is not mark:
                break
            call, same = known, same + 1
        del self._path[same:]
        throughout = call
        for seen in stack.calls[same:]:
            inner = CallNode(
                seen.code,
                seen.module,
                call,
                seen.site,
                seen.is_direct,
                seen.by,
                seen.is_task,
                seen.is_job,
            )
            call.children.append(inner)
            self._calls.append(inner)
            self._path.append((seen.mark, inner))
            call = inner
        return throughout

    @staticmethod
    def _credit(spot: tuple[CallNode, Position], spent: Spent) -> None:
        call, position = spot
        call.own.setdefault(position, Spent()).add(spent)
