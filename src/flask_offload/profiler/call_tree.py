"""The samples of one request, as a tree of single calls.

A function that is called 25 times is 25 nodes: only so can one long call be told from a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, NamedTuple

from .stacks import Place, Stack


@dataclass(slots=True)
class Spent:
    """Time, in seconds; `cpu` is the processor's part of it, as far as it is `known`."""

    seconds: float = 0.0
    cpu: float = 0.0
    known: float = 0.0

    def add(self, other: Spent) -> None:
        """Add the time of another."""
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.known += other.known

    def copy(self) -> Spent:
        """The same, to be changed by itself."""
        return Spent(self.seconds, self.cpu, self.known)

    def half(self) -> Spent:
        """Half of it."""
        return Spent(self.seconds / 2, self.cpu / 2, self.known / 2)


class Position(NamedTuple):
    """What a function itself was doing: where it stood, and in which library function.

    at: None for the root, which stands for everything outside of user code.
    """

    at: Place | None
    inside: str | None


@dataclass(slots=True, eq=False)
class Call:
    """One call of a user's function. `own`: its time outside of the user functions it called.

    `total` (own time and that of all calls inside) stands once the tree is complete.
    """

    code: CodeType | None
    module: dict[str, Any]
    parent: Call | None = None
    site: Place | None = None
    is_direct: bool = False
    by: str | None = None
    is_task: bool = False
    is_job: bool = False
    children: list[Call] = field(default_factory=list)
    own: dict[Position, Spent] = field(default_factory=dict)
    total: Spent = field(default_factory=Spent)

    def own_time(self) -> Spent:
        """The sum of `own`."""
        spent = Spent()
        for part in self.own.values():
            spent.add(part)
        return spent

    def callers(self) -> Iterator[Call]:
        """This call and those around it, innermost first, without the root."""
        call: Call | None = self
        while call is not None and call.code is not None:
            yield call
            call = call.parent


class CallTree:
    """Grows by one sample after the other. Its root stands for the whole request."""

    def __init__(self) -> None:
        self.root = Call(None, {})
        self.samples = 0
        self._calls: list[Call] = []  # callers come before what they call
        self._path: list[tuple[object, Call]] = []
        self._spot = (self.root, Position(None, None))

    def add(self, stack: Stack, between: Spent, late: Spent) -> None:
        """Add a sample.

        between: the time since the last sample; half of it is given to either stack, because the
        change lies somewhere in between. late: the time by which the sample came too late. Then
        somebody kept the interpreter for himself, as a long C function does, and this sample is
        the first thing seen of it. The time before the first sample is given to the first.
        """
        self.samples += 1
        before = self._spot
        self._spot = self._enter(stack)
        self._credit(before if self.samples > 1 else self._spot, between.half())
        self._credit(self._spot, between.half())
        self._credit(self._spot, late)

    def complete(self, rest: Spent) -> Call:
        """Give the time after the last sample to it, sum up, and return the root."""
        self._credit(self._spot, rest)
        self._path = []
        for call in [self.root, *self._calls]:
            call.total = call.own_time()
        for call in reversed(self._calls):
            assert call.parent is not None
            call.parent.total.add(call.total)
        return self.root

    def _enter(self, stack: Stack) -> tuple[Call, Position]:
        call, same = self.root, 0
        for seen, (mark, known) in zip(stack.calls, self._path, strict=False):
            if seen.mark is not mark:
                break
            call, same = known, same + 1
        del self._path[same:]
        for seen in stack.calls[same:]:
            inner = Call(
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
        return call, Position(stack.at, stack.inside)

    @staticmethod
    def _credit(spot: tuple[Call, Position], spent: Spent) -> None:
        call, position = spot
        call.own.setdefault(position, Spent()).add(spent)
