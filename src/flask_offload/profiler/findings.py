"""The report about one slow request, and its sentence. Pure functions."""

from __future__ import annotations

from dataclasses import replace

from .advice import advice
from .attribution import MOST, Part, parts_of
from .call_site import call_site, full_name
from .call_tree import NOT_SEEN, CallNode, Position, Spent
from .spot_report import UNKNOWN, Blocker, Figures, SpotReport
from .stacks import Place, is_template
from .wording import (
    Surroundings,
    callers_of,
    chain_of,
    file_name,
    function_name,
    line_number,
)


def report(route: str, figures: Figures, root: CallNode, around: Surroundings) -> SpotReport:
    """Find what blocked a request, from its complete tree of calls."""
    parts = parts_of(root, around.is_view, figures.seconds) if figures.samples else []
    blockers = tuple(_blocker(part, figures, around) for part in parts)
    sentence = _sentence(route, figures, blockers) + _statements(around)
    queries = sum(query.times for query in around.queries)
    return SpotReport(route, figures.seconds, figures.samples, blockers, sentence, queries)


def _sentence(route: str, figures: Figures, blockers: tuple[Blocker, ...]) -> str:
    text = f"{route} blocked {figures.seconds * 1000:,.0f} ms"
    if not blockers:
        return f"{text}, and was not seen: the sampler did not get to run meanwhile"
    first, *others = blockers
    text = f"{text}: {first.what}"
    if others:
        rest = ", ".join(other.what for other in others)
        said = first.remedy[0].lower() + first.remedy[1:]
        return f"{text}; {rest}. About {first.function}: {said}"
    return f"{text}. {first.remedy}" if first.remedy else text


def _statements(around: Surroundings) -> str:
    count = sum(query.times for query in around.queries)
    if count < 2:
        return ""
    seconds = sum(query.seconds for query in around.queries)
    return f". {count:,} SQL statements took {seconds * 1000:,.0f} ms"


def _blocker(part: Part, figures: Figures, around: Surroundings) -> Blocker:
    share = min(part.spent.seconds / figures.seconds, 1.0)
    if part.is_unseen:
        return replace(UNKNOWN, share=share, what=f"{share * 100:.0f}% not seen")
    if part.is_rough:  # half a sample is as exact as it gets
        share = min(share, 1 - 0.5 / figures.samples)
    call = part.call
    inner = None if part.is_own else _heaviest_inside(call)
    seen = [known for known in call.own if known.inside != NOT_SEEN]
    position = max(seen, key=lambda known: call.own[known].seconds, default=None)
    at = inner.site if inner else position.at if position else None
    found = advice(part, around)
    what = _what(part, inner, _where(part, inner, position, at, around))
    return Blocker(
        function=function_name(call),
        file=file_name(call),
        line=line_number(call, at),
        share=share,
        waiting=part.waiting,
        what=f"{_share(share, part)} {what}",
        advice=found.kind,
        remedy=found.text,
        callers=tuple(callers_of(part)),
    )


def _share(share: float, part: Part) -> str:
    if not part.is_rough:
        return f"{share * 100:.0f}%"
    count = part.spent.samples
    return f"about {share * 100:.0f}% ({count} sample{'s' if count != 1 else ''})"


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
    part: Part,
    inner: CallNode | None,
    position: Position | None,
    at: Place | None,
    around: Surroundings,
) -> str:
    """The chain of calls out to the view: `in X <- mail.py:10 send <- app.py:3 view`."""
    call = part.call
    if call.code is None:
        inside = position.inside if position else None
        return f"in {inside or 'Flask itself'}, which no code of this app has called"
    chain = chain_of(call, at, around.root)
    doing = _calls_of(call, inner) if inner else _doing(call, position)
    callers = callers_of(part)
    if callers:
        called = " and ".join(f"{name} ({share * 100:.0f}%)" for name, share in callers)
        chain = [f"{chain[0]}, called by {called}"]
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
