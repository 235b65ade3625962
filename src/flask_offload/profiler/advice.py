"""What to do about a function that blocks a request. Pure functions over what was seen.

docs/profiler-evidence.md has the situations as a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

from .activity import Activity, of_call
from .attribution import Part
from .call_site import call_site, full_name
from .call_tree import CallNode, Position
from .queries import MANY, Query
from .stacks import ENQUEUE, is_template
from .usage import Use, use_of, use_of_line, view_of
from .wording import Surroundings, function_name, place_of

_HOOKS = {
    "preprocess_request": "before_request",
    "process_response": "after_request",
    "do_teardown_request": "teardown_request",
    "do_teardown_appcontext": "teardown_appcontext",
    "handle_user_exception": "errorhandler",
    "handle_exception": "errorhandler",
}
"""Flask's methods, and the decorators that register the functions they call."""


class Advice(NamedTuple):
    """kind: "task", "respond_async", "query", "cache" or "leave". text: what to do, one sentence
    without the full stop."""

    kind: str
    text: str


_ALWAYS_LEFT = {
    Activity.IMPORT: "It is an import, which only the first request pays for: leave it, or import"
    " the module when the app starts",
    Activity.COMPILE: "It compiles templates, which only the first request pays for: leave it; the"
    " compiled ones are kept",
    Activity.COMPILE_TEXT: "render_template_string compiles its text at each call: leave it in the"
    " request, but put the text into a template file, which is compiled once",
    Activity.CONNECT: "It opens a connection to the database, or prepares the models, which only"
    " the first request pays for: leave it",
    Activity.HASH: "It hashes a password, which is slow on purpose, and the answer depends on it:"
    " leave it",
    Activity.UPLOAD: "It reads the request from the network, as fast as the client sends it:"
    " leave it",
    Activity.PATTERN: "It matches a pattern, and a long match is one that tries endless ways: leave"
    " it in the request, and change the pattern, or limit the length of the text",
    Activity.LOCK: "It waits for a lock that another thread holds: leave it, and shorten what is"
    " done while the lock is held",
}


def advice(part: Part, around: Surroundings) -> Advice:
    """What to do about a part of a request."""
    call = part.call
    if call.code is None:
        return Advice(
            "leave",
            "Flask, an extension or an import does it, outside of this app's own code: if it is"
            " only the first request, leave it",
        )
    if _is_enqueue(call):
        return Advice(
            "leave",
            "It waits for the job database, not for the job: the first enqueue of a process opens"
            " it; if it happens again, the disk is slow or another program has the file locked",
        )
    if any(caller.is_job for caller in call.callers()):
        return Advice(
            "leave",
            'It is a job, and OFFLOAD_ENGINE = "inline" runs it where it is enqueued: with another'
            " engine a worker runs it",
        )
    activity = activity_of(part)
    if call.code.co_name == "<module>":
        activity = Activity.IMPORT
    if activity in _ALWAYS_LEFT:
        return Advice("leave", _ALWAYS_LEFT[activity])
    query = _query(part, activity, around)
    return query or _advice_for_code(part, activity, around)


def activity_of(part: Part) -> Activity | None:
    """What most of its time went to, as far as it is known."""
    spent: dict[Activity | None, float] = {}
    for call in [part.call] if part.is_own else _within(part.call):
        for position, time in call.own.items():
            found = _activity_at(call, position)
            spent[found] = spent.get(found, 0.0) + time.seconds
    most = max(spent, key=lambda activity: spent[activity], default=None)
    return most if most and spent[most] >= sum(spent.values()) / 2 else None


def _within(call: CallNode) -> Iterator[CallNode]:
    yield call
    for child in call.children:
        yield from _within(child)


def _activity_at(call: CallNode, position: Position) -> Activity | None:
    if position.activity or position.inside or position.at is None:
        return position.activity
    name = call_site(position.at).name
    if name is None:
        return None
    value = call.module.get(name.partition(".")[0])
    return of_call(name, full_name(name, call.module), value)


# --- the database ------------------------------------------------------------------------------


def _query(part: Part, activity: Activity | None, around: Surroundings) -> Advice | None:
    codes = {code for call in _within(part.call) if call.code for code in _with_folded(call.code)}
    here = [query for query in around.queries if query.code in codes]
    many = next((query for query in here if query.times >= MANY), None)
    seconds = part.call.total.seconds
    if many is not None and (
        activity is Activity.DATABASE or sum(query.seconds for query in here) >= seconds / 3
    ):
        return Advice("query", _many(many, around))
    if activity is not Activity.DATABASE:
        return None
    slowest = max(here, key=lambda query: query.seconds / query.times, default=None)
    if slowest is None or slowest.seconds < seconds / 3:
        return Advice(
            "query",
            "The time goes to the database, or to making objects of its rows: ask for fewer rows"
            " and columns, a page at a time, and in fewer statements",
        )
    return Advice(
        "query",
        f"One statement takes {slowest.seconds / slowest.times * 1000:,.0f} ms,"
        f" {_short(slowest.statement)}, at {place_of(slowest, around.root)}: look at its plan"
        " (EXPLAIN), and give it an index, or ask for less",
    )


def _with_folded(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of the lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name.startswith("<"):
            yield from _with_folded(constant)


def _many(query: Query, around: Surroundings) -> str:
    verb = query.statement.lstrip().partition(" ")[0].upper()
    what = (
        "load all of it with the first query (selectinload or joinedload), or ask for all at once"
        if verb in ("SELECT", "WITH")
        else "write all rows with one statement (executemany, or insert() with a list), and commit"
        " once"
    )
    return (
        f"The same statement ran {query.times:,} times, {query.seconds * 1000:,.0f} ms in the"
        f" database, from {place_of(query, around.root)} ({_short(query.statement)}): {what}"
    )


def _short(statement: str) -> str:
    words = " ".join(statement.split())
    return words if len(words) <= 60 else f"{words[:28]} … {words[-28:]}"


# --- code that could be moved ------------------------------------------------------------------


def _advice_for_code(part: Part, activity: Activity | None, around: Surroundings) -> Advice:
    call = part.call
    assert call.code is not None
    outermost = list(call.callers())[-1]
    if is_template(call.module):
        return Advice(
            "cache",
            "It is the rendering: show a page of it at a time, keep the finished part"
            " in a cache, or stream the template",
        )
    if around.is_view(call):
        return _for_view(part, activity, around)
    if call is outermost and call.by in _HOOKS:
        is_free = use_of_line(part, activity, around) is Use.FREE
        return Advice(
            "task" if is_free else "cache",
            f"It is a function for {_HOOKS[call.by]}, so it delays other routes too:"
            " enqueue its slow part as a task, or keep its result in a cache",
        )
    caller = call.parent
    if caller is not None and is_template(caller.module):
        return Advice(
            "cache",
            "Its value is used while rendering: keep it in a cache, or compute it beforehand in a"
            " task, and render what that has stored",
        )
    if any(_is_kept(caller) for caller in call.callers()):
        return Advice(
            "leave", "Its value is kept (lru_cache), so only the first call pays: leave it"
        )
    use = use_of(call, around)
    if use is Use.FREE:
        return Advice("task", _enqueue_it(part, around))
    outer = None if call.is_task else _outer_unused(call, around)
    if outer is not None:
        verb = "may be" if use is Use.UNKNOWN else "is"
        text = f"Its value {verb} used by {function_name(outer)}, whose own value is not used"
        return Advice("task", f"{text}: {_enqueue(outer, is_task=False)}")
    return _not_free(part, use, activity, around)


def _is_kept(call: CallNode) -> bool:
    """Whether a function's values are kept by functools.lru_cache."""
    assert call.code is not None
    return hasattr(call.module.get(call.code.co_name), "cache_info")


def _for_view(part: Part, activity: Activity | None, around: Surroundings) -> Advice:
    if around.is_stream(part.call):
        return _while_streaming()
    use = use_of_line(part, activity, around)
    if use is Use.FREE:
        later = _respond_async(part.call, around)
        also = f", or {later}" if later else ""
        return Advice(
            "task",
            "The view does this itself, and the answer does not need it: move these lines into a"
            " function decorated with @offload.task and call its enqueue(...)" + also,
        )
    return _not_free(part, use, activity, around)


_REASONS = {
    Use.DECIDES: "It decides what the answer is, by its value or by an error, so it is not a task",
    Use.CHANGES: "It changes an object that the view goes on with, so it is not a task",
    Use.SHARED: "It changes data of this process, which a worker does not share, so it is not a"
    " task",
    Use.SESSION: "It sets the session, cookies or `g` of this request, so it is not a task",
}


def _not_free(part: Part, use: Use, activity: Activity | None, around: Surroundings) -> Advice:
    """For what the answer depends on: the whole view can answer later, or nothing can."""
    call = part.call
    if around.is_stream(call):
        return _while_streaming()
    if use in _REASONS:
        reason = _REASONS[use]
    else:
        verb = "may be" if use is Use.UNKNOWN else "is"
        reason = f"Its value {verb} used"
        if around.is_view(call):
            reason = "The view does this itself, and the answer needs it"
    is_get = around.method in ("GET", "HEAD")
    later = None if use in (Use.SHARED, Use.SESSION) else _respond_async(call, around)
    if use is not Use.CHANGES and (
        (is_get and activity is Activity.HTTP) or (later is None and use in _CACHED)
    ):
        return Advice("cache", f"{reason}: keep its value in a cache for a while")
    if later is None or (is_get and use in (Use.DECIDES, Use.CHANGES)):
        return Advice("leave", f"{reason}: leave it in the request, and make it faster")
    answer = ""
    if use not in _REASONS and not around.is_view(call):
        answer = _answer(call, _is_task(call, around)) + ", or "
        if activity is Activity.HTTP:
            answer = ""
    return Advice("respond_async", f"{reason}: {answer}{later}")


_CACHED = frozenset({Use.ANSWER, Use.UNKNOWN})


def _while_streaming() -> Advice:
    return Advice(
        "leave",
        "It runs while the response streams, and the client has the first bytes already: leave it;"
        " or write the file in a function decorated with @offload.task, and let the client fetch"
        " it when it is done",
    )


def _respond_async(call: CallNode, around: Surroundings) -> str | None:
    """How the whole view could answer later; None when it can't: it is called outside of the view,
    or the view sets what only the response can carry."""
    view = view_of(call, around)
    if view is None or around.streams or around.sets_session(view):
        return None
    name = function_name(view)
    name = name if "<" not in name else "the view"
    if around.method in ("GET", "HEAD"):
        return f"decorate {name} with @offload.respond_async"
    return f'decorate {name} with @offload.respond_async(always=["{around.method}"])'


def _enqueue_it(part: Part, around: Surroundings) -> str:
    call = part.call
    is_task = _is_task(call, around)
    its = "It is a task, called inline, and its" if is_task else "Its"
    if part.is_loop and _can_be_task(call):
        many = f"offload.enqueue_many([{function_name(call)}.call(...), ...])"
        how = "" if is_task else f"decorate {function_name(call)} with @offload.task and "
        return (
            f"{its} value is not used, and it is called in a loop:"
            f" {how}enqueue the calls together, {many}"
        )
    hint = (
        ", with what it reads from the request as arguments" if around.reads_request(call) else ""
    )
    return f"{its} value is not used: {_enqueue(call, is_task)}{hint}"


def _enqueue(call: CallNode, is_task: bool) -> str:
    name = function_name(call)
    if is_task:
        return f"call {name}.enqueue(...)"
    if _can_be_task(call):
        return f"decorate {name} with @offload.task and call {name}.enqueue(...)"
    return "do this in a function decorated with @offload.task, and enqueue that"


def _answer(call: CallNode, is_task: bool) -> str:
    name = function_name(call)
    if is_task:
        return f"answer with offload.accepted({name}.enqueue(...))"
    if _can_be_task(call):
        accepted = f"offload.accepted({name}.enqueue(...))"
        return f"decorate {name} with @offload.task and answer with {accepted}"
    return (
        "do this in a function decorated with @offload.task, enqueue that and answer with"
        " offload.accepted(job)"
    )


def _is_enqueue(call: CallNode) -> bool:
    """Whether most of its time was spent in enqueueing a job."""
    here = max(call.own, key=lambda position: call.own[position].seconds, default=None)
    if here is None or here.inside != ENQUEUE:
        return False
    return call.own[here].seconds >= call.total.seconds / 2


def _is_task(call: CallNode, around: Surroundings) -> bool:
    return call.is_task or (call.code is not None and around.is_task(call.code))


def _can_be_task(call: CallNode) -> bool:
    """Whether it can be decorated: no method, no lambda."""
    return function_name(call).isidentifier()


def _outer_unused(call: CallNode, around: Surroundings) -> CallNode | None:
    """The innermost function around this one, within the view, that can be moved as it is."""
    passes_on = _is_passed_on(call)
    for outer in list(call.callers())[1:]:
        if around.is_view(outer):
            return None
        if not passes_on and use_of(outer, around) is Use.FREE:
            return outer
        passes_on = _is_passed_on(outer)
    return None


def _is_passed_on(call: CallNode) -> bool:
    """Whether it was called by its decorator's wrapper, or by a lambda."""
    return call.site is not None and call.is_direct and call_site(call.site).passes_on
