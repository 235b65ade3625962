"""Attribution of a request's time to functions. Pure functions over a complete tree of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .call_tree import NOT_SEEN, CallNode, Spent

MOST = 0.8
"""A call with this share of its caller's time is named instead of it."""
WORTH_NAMING = 0.1
"""The share of the request from which a part is reported."""
ENOUGH = 8
"""Samples from which on a share is said without "about"."""
WAITING_BELOW = 0.3
"""A part that used less than this share of a processor was waiting."""


@dataclass(slots=True)
class Part:
    """A part of a request's time, and the call that it is attributed to.

    is_own: only what the call did itself, without the functions that it called. is_loop: several
    calls of this function, from one place. is_unseen: nothing was sampled meanwhile. ways: the
    parts that were merged, when the function was called in several ways.
    """

    call: CallNode
    spent: Spent
    is_own: bool = False
    is_loop: bool = False
    is_unseen: bool = False
    ways: list[Part] = field(default_factory=list)

    @property
    def waiting(self) -> bool | None:
        """Whether it waited rather than computed; None when the system does not report it.

        On an overloaded machine, computing may look like waiting.
        """
        if self.spent.known <= 0:
            return None
        return self.spent.cpu / self.spent.known < WAITING_BELOW

    @property
    def is_rough(self) -> bool:
        """Whether few samples stand behind it, so that its share is known roughly only."""
        return self.spent.samples < ENOUGH and self.spent.proven < MOST * self.spent.seconds


def parts_of(root: CallNode, is_view: Callable[[CallNode], bool], seconds: float) -> list[Part]:
    """The parts of a request that took `seconds`, largest first; parts under 10% are left out.

    The view itself can't be moved, so it is split: every function that it calls is a part, and so
    is its own time. A part is named after the innermost single call that still holds 80% of it;
    but never after one call of a loop, because the function with the loop is what should be moved.
    A loop in the view itself names the function that is called. Time without any user code is a
    part of the root, and so is time in which nothing was sampled, which is the last part.
    """
    path = _path_to_view(root, is_view)
    parts: list[Part] = []
    unseen = Part(root, Spent(), is_unseen=True)
    _split(root, path, parts, unseen)
    merged: dict[object, list[Part]] = {}
    for part in sorted(parts, key=_by_time):
        merged.setdefault(part.call.code, []).append(part)
    found = sorted((_merged(group) for group in merged.values()), key=_by_time)
    return [part for part in [*found, unseen] if part.spent.seconds >= WORTH_NAMING * seconds]


def _by_time(part: Part) -> float:
    return -part.spent.seconds


def _merged(group: list[Part]) -> Part:
    """One part out of those of one function; by the ways to it, if it was called in several."""
    ways: dict[tuple[object, ...], Part] = {}
    for part in group:
        chain = tuple(call.code for call in part.call.callers())
        known = ways.setdefault(chain, part)
        if known is not part:
            known.spent.add(part.spent)
            known.is_loop |= part.is_loop
    if len(ways) == 1:
        return group[0]
    spent = Spent()
    for part in ways.values():
        spent.add(part.spent)
    first = min(ways.values(), key=_by_time)
    return replace(first, spent=spent, ways=sorted(ways.values(), key=_by_time))


def _path_to_view(root: CallNode, is_view: Callable[[CallNode], bool]) -> set[CallNode]:
    """The root, the view, and what is called in between: middleware and decorators."""
    path = {root}
    pending = list(root.children)
    while pending:
        call = pending.pop()
        if is_view(call):
            path.update(call.callers())
        else:
            pending.extend(call.children)
    return path


def _split(call: CallNode, path: set[CallNode], parts: list[Part], unseen: Part) -> None:
    groups: dict[object, list[CallNode]] = {}
    for child in call.children:
        if child in path:
            _split(child, path, parts, unseen)
        else:
            groups.setdefault(child.code, []).append(child)
    for group in groups.values():
        parts.append(_part_of(group))
    own = Spent()
    for position, spent in call.own.items():
        (unseen.spent if position.inside == NOT_SEEN else own).add(spent)
    if own.seconds > 0:
        parts.append(Part(call, own, is_own=True))


def _part_of(group: list[CallNode]) -> Part:
    """One part out of all calls of one function from the same caller."""
    innermost = _innermost(group)
    spent = Spent()
    for call in innermost:
        spent.add(call.total)
    sites = [call.site for call in group if call.site is not None]
    return Part(max(innermost, key=_seconds), spent, is_loop=len(set(sites)) < len(sites))


def _innermost(calls: list[CallNode]) -> list[CallNode]:
    """The innermost calls, of one function and at most one in each of these, that still hold most
    of the time."""
    while True:
        heaviest: dict[object, list[CallNode]] = {}
        for call in calls:
            by_function: dict[object, CallNode] = {}
            for child in call.children:
                known = by_function.setdefault(child.code, child)
                if _seconds(child) > _seconds(known):
                    by_function[child.code] = child
            for code, child in by_function.items():
                heaviest.setdefault(code, []).append(child)
        inner = max(heaviest.values(), key=_total_seconds, default=[])
        if not inner or _total_seconds(inner) < MOST * _total_seconds(calls):
            return calls
        calls = inner


def _seconds(call: CallNode) -> float:
    return call.total.seconds


def _total_seconds(calls: list[CallNode]) -> float:
    return sum(map(_seconds, calls))
