"""What a request needs a call for: its value, a decision, a changed object, or nothing."""

from __future__ import annotations

import ast
from enum import Enum

from .activity import OUTWARD, Activity
from .attribution import Part
from .call_site import CallSite, Usage, call_site, names_read
from .call_tree import CallNode
from .effects import arguments_of, effects_of, reaches_answer, root_of
from .wording import Surroundings


class Use(Enum):
    """FREE: for nothing; it may happen later. ANSWER: its value. DECIDES: its value or an exception
    decides. CHANGES: it changes an object that is used later. SHARED: it changes data of this
    process. SESSION: it changes the session, cookies or `g`. UNKNOWN: it can't be read."""

    FREE = 0
    ANSWER = 1
    DECIDES = 2
    CHANGES = 3
    SHARED = 4
    SESSION = 5
    UNKNOWN = 6


_BY_VALUE = {
    Usage.USED: Use.ANSWER,
    Usage.DECIDES: Use.DECIDES,
    Usage.UNKNOWN: Use.UNKNOWN,
}


def view_of(call: CallNode, around: Surroundings) -> CallNode | None:
    """The call of the view within which a call runs; None for hooks, decorators and streams."""
    return next((outer for outer in call.callers() if around.is_view(outer)), None)


def use_of(call: CallNode, around: Surroundings) -> Use:
    """What a request needs the call of a user's function for; a decorator passes its value on."""
    for inner in call.callers():
        if inner.site is None or not inner.is_direct:
            return Use.UNKNOWN
        site = call_site(inner.site)
        if site.passes_on:
            continue
        caller = inner.parent
        is_outermost = caller is None or caller.site is None or around.is_view(caller)
        use = _BY_VALUE.get(site.usage) or _use_of_effects(call, inner, site, around)
        if site.is_guarded:
            return Use.DECIDES
        if is_outermost or caller is None or use not in (Use.FREE, Use.ANSWER, Use.DECIDES):
            return use
        outer = use_of(caller, around)
        if use is Use.FREE:  # by itself; but an error of it may decide something further out
            return Use.DECIDES if _is_guarded_around(caller, around) else Use.FREE
        return outer if outer in _EFFECTS else use
    return Use.UNKNOWN


_EFFECTS = frozenset({Use.CHANGES, Use.SHARED, Use.SESSION, Use.DECIDES})


def _is_guarded_around(call: CallNode, around: Surroundings) -> bool:
    for outer in call.callers():
        if around.is_view(outer):
            break
        if outer.site is not None and call_site(outer.site).is_guarded:
            return True
    return False


def _use_of_effects(call: CallNode, inner: CallNode, site: CallSite, around: Surroundings) -> Use:
    """For a call whose value is not used. inner: the call that stands at the site, a wrapper when
    it is decorated."""
    assert call.code is not None
    effects = effects_of(call.code, call.module, around.handled)
    if effects.answers:
        return Use.DECIDES
    if effects.session:
        return Use.SESSION
    if effects.shared:
        return Use.SHARED
    caller = inner.parent
    if not effects.changes or site.call is None or caller is None or caller.code is None:
        return Use.FREE
    is_method = call.code.co_varnames[:1] in (("self",), ("cls",))
    given = list(arguments_of(site.call, call.code, int(is_method)))
    if is_method and isinstance(site.call.func, ast.Attribute):
        given.append((call.code.co_varnames[0], site.call.func.value))
    changed = {root_of(value) for name, value in given if name in effects.changes} - {""}
    if not changed:
        return Use.FREE
    given_to_caller = changed & set(caller.code.co_varnames[: caller.code.co_argcount])
    if given_to_caller and not around.is_view(caller) and use_of(caller, around) is not Use.FREE:
        return Use.CHANGES  # its callers may go on with it
    is_foreign = not changed <= set(caller.code.co_varnames + caller.code.co_cellvars)
    commits = effects_of(caller.code, caller.module).commits
    needed = is_foreign or commits or reaches_answer(changed, caller.code, site.call)
    return Use.CHANGES if needed else Use.FREE


def use_of_line(part: Part, activity: Activity | None, around: Surroundings) -> Use:
    """What a function needs the call for that it spends its own time in, by its heaviest place."""
    call = part.call
    spent: dict[tuple[CallSite, int], float] = {}
    for position, time in call.own.items():
        if position.at is not None:
            site = call_site(position.at)
            key = (site, id(site.call))
            spent[key] = spent.get(key, 0.0) + time.seconds
    if not spent or call.code is None:
        return Use.UNKNOWN
    site, _ = max(spent, key=lambda each: spent[each])
    if site.is_guarded:
        return Use.DECIDES
    if activity is Activity.MAIL and (site.name or "").startswith("with "):
        return Use.FREE
    if activity is Activity.SLEEP and site.is_polling:
        return Use.DECIDES  # it waits for something
    if site.usage in _BY_VALUE:
        return _BY_VALUE[site.usage]
    if activity in OUTWARD or site.call is None:
        return Use.FREE
    if activity is Activity.THREAD:
        return Use.CHANGES  # what the other thread does is not known
    touched = names_read(site.call) & set(call.code.co_varnames + call.code.co_cellvars)
    commits = effects_of(call.code, call.module).commits
    needed = commits or reaches_answer(touched, call.code, site.call)
    return Use.CHANGES if needed else Use.FREE
