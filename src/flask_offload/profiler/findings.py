"""The report about one slow request, and its sentence. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from .advice import advice
from .attribution import MOST, Part, parts_of
from .call_site import call_site, full_name
from .call_tree import CallNode, Position, Spent
from .stacks import Place, is_template
from .wording import (
    Surroundings,
    chain_of,
    file_name,
    function_name,
    line_number,
)


@dataclass(frozen=True, slots=True)
class Blocker:
    """A function that blocked a request.

    share: of the request's time, 0 to 1. waiting: it waited (True) or computed (False); None: not
    known. line: where in the function. what: what it did, and where. advice: what to do about it.
    """

    function: str
    file: str
    line: int
    share: float
    waiting: bool | None
    what: str
    advice: str


UNKNOWN = Blocker("(not seen)", "", 0, 1.0, None, "", "")
"""The blocker of a request without samples."""


@dataclass(frozen=True, slots=True)
class SpotReport:
    """What was found about one slow request; `blockers` largest first, none without samples."""

    route: str
    seconds: float
    samples: int
    blockers: tuple[Blocker, ...]
    sentence: str


def report(
    route: str, seconds: float, root: CallNode, samples: int, around: Surroundings
) -> SpotReport:
    """Find what blocked a request that took `seconds`, from its complete tree of calls."""
    parts = parts_of(root, around.is_view, seconds) if samples else []
    blockers = tuple(_blocker(part, seconds, around) for part in parts)
    return SpotReport(route, seconds, samples, blockers, _sentence(route, seconds, blockers))


def _sentence(route: str, seconds: float, blockers: tuple[Blocker, ...]) -> str:
    text = f"{route} blocked {seconds * 1000:,.0f} ms"
    if not blockers:
        return (
            f"{text}, and could not be looked at while it ran: all the time a function written in C"
            " kept Python's interpreter to itself, as a regular expression does"
        )
    first, *others = blockers
    text = f"{text}: {_share(first)}"
    if others:
        rest = ", ".join(_share(other) for other in others)
        said = first.advice[0].lower() + first.advice[1:]
        return f"{text}; {rest}. About {first.function}: {said}"
    return f"{text}. {first.advice}"


def _share(blocker: Blocker) -> str:
    return f"{min(blocker.share, 1.0) * 100:.0f}% {blocker.what}"


def _blocker(part: Part, seconds: float, around: Surroundings) -> Blocker:
    call = part.call
    inner = None if part.is_own else _heaviest_inside(call)
    position = max(call.own, key=lambda known: call.own[known].seconds, default=None)
    at = inner.site if inner else position.at if position else None
    return Blocker(
        function=function_name(call),
        file=file_name(call),
        line=line_number(call, at),
        share=part.spent.seconds / seconds,
        waiting=part.waiting,
        what=_what(part, inner, _where(call, inner, position, at, around)),
        advice=advice(part, around),
    )


def _what(part: Part, inner: CallNode | None, where: str) -> str:
    """What it did, and where; "most of it" if the heaviest callee is not nearly all of it."""
    if inner is not None:
        spent = Spent()
        for child in part.call.children:
            if child.code is inner.code:
                spent.add(child.total)
        if spent.seconds < MOST * part.call.total.seconds:
            name = function_name(part.call)
            return f"in {name}, most of it {_doing_of(Part(inner, spent))} {where}"
    return f"{_doing_of(part)} {where}"


def _doing_of(part: Part) -> str:
    return {True: "waiting", False: "computing", None: "spent"}[part.waiting]


def _heaviest_inside(call: CallNode) -> CallNode | None:
    """The largest of the calls that it made, if most of its time went by in those."""
    if not call.children or call.own_time().seconds > call.total.seconds / 2:
        return None
    return max(call.children, key=lambda child: child.total.seconds)


def _where(
    call: CallNode,
    inner: CallNode | None,
    position: Position | None,
    at: Place | None,
    around: Surroundings,
) -> str:
    """The chain of calls out to the view: `in X <- mail.py:10 send <- app.py:3 view`."""
    if call.code is None:
        inside = position.inside if position else None
        return f"in {inside or 'Flask itself'}, which no code of this app has called"
    chain = chain_of(call, at, around.root)
    doing = _calls_of(call, inner) if inner else _doing(call, position)
    return "in " + " <- ".join([doing, *chain] if doing else chain)


def _calls_of(call: CallNode, inner: CallNode) -> str:
    name = function_name(inner)
    seen = sum(child.code is inner.code for child in call.children)
    return f"repeated calls of {name}" if seen > 1 else name


def _doing(call: CallNode, position: Position | None) -> str | None:
    """The library function, or the function written in C, that a function has called."""
    if position is None or position.at is None:
        return None
    if position.inside or is_template(call.module):
        return position.inside
    called = call_site(position.at).name
    return full_name(called, call.module) if called else None
