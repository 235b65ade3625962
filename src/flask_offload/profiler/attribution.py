"""The rule that names the function to move. Pure functions over a complete tree of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .call_tree import Call, Spent

MOST = 0.8
"""A call that holds this share of its caller's time stands for it."""
WORTH_NAMING = 0.1
"""The share of the request from which a part is reported."""
WAITING_BELOW = 0.3
"""A part that used less than this share of a processor was waiting."""


@dataclass(slots=True)
class Part:
    """A part of a request's time, and the call that stands for it.

    is_own: only what the call did itself, without the functions that it called. is_loop: several
    calls of this function, from one place.
    """

    call: Call
    spent: Spent
    is_own: bool = False
    is_loop: bool = False

    @property
    def waiting(self) -> bool | None:
        """Whether it waited rather than computed; None when the system can't tell.

        On a machine with more to compute than processors, computing looks like waiting.
        """
        if self.spent.known <= 0:
            return None
        return self.spent.cpu / self.spent.known < WAITING_BELOW


def parts_of(root: Call, is_view: Callable[[Call], bool], seconds: float) -> list[Part]:
    """The parts of a request that took `seconds`, largest first; parts under 10 % are left out.

    The view itself can't be moved, so it is taken apart: every function that it calls is a part,
    and so is what it does itself. A part is named after the innermost single call that still
    holds 80 % of it: one call stands for its caller, but a call out of a loop does not, because
    the function with the loop is what should be moved. A loop in the view itself names the
    function that is called. Time without any user code is a part of the root.
    """
    on_the_way = _way_to_view(root, is_view)
    parts: list[Part] = []
    _take_apart(root, on_the_way, parts)
    merged: dict[object, Part] = {}
    for part in sorted(parts, key=lambda part: -part.spent.seconds):
        known = merged.setdefault(part.call.code, part)
        if known is not part:
            known.spent.add(part.spent)
            known.is_loop |= part.is_loop
    found = [part for part in merged.values() if part.spent.seconds >= WORTH_NAMING * seconds]
    return sorted(found, key=lambda part: -part.spent.seconds)


def _way_to_view(root: Call, is_view: Callable[[Call], bool]) -> set[Call]:
    """The root, the view, and what is called in between: middleware and decorators."""
    way = {root}
    pending = list(root.children)
    while pending:
        call = pending.pop()
        if is_view(call):
            way.update(call.callers())
        else:
            pending.extend(call.children)
    return way


def _take_apart(call: Call, on_the_way: set[Call], parts: list[Part]) -> None:
    groups: dict[object, list[Call]] = {}
    for child in call.children:
        if child in on_the_way:
            _take_apart(child, on_the_way, parts)
        else:
            groups.setdefault(child.code, []).append(child)
    for group in groups.values():
        parts.append(_part_of(group))
    own = call.own_time()
    if own.seconds > 0:
        parts.append(Part(call, own, is_own=True))


def _part_of(group: list[Call]) -> Part:
    """One part out of all calls of one function from the same caller."""
    settled = _settle(group)
    spent = Spent()
    for call in settled:
        spent.add(call.total)
    sites = [call.site for call in group if call.site is not None]
    return Part(max(settled, key=_seconds), spent, is_loop=len(set(sites)) < len(sites))


def _settle(calls: list[Call]) -> list[Call]:
    """The innermost calls, of one function and at most one in each of these, that still hold most
    of the time."""
    while True:
        heaviest: dict[object, list[Call]] = {}
        for call in calls:
            by_function: dict[object, Call] = {}
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


def _seconds(call: Call) -> float:
    return call.total.seconds


def _total_seconds(calls: list[Call]) -> float:
    return sum(map(_seconds, calls))
