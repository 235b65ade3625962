"""What to do about a function that blocks a request, in words."""

from __future__ import annotations

from .attribution import Part
from .call_site import Usage, call_site
from .call_tree import CallNode
from .stacks import ENQUEUE, is_template
from .wording import Surroundings, function_name

_HOOKS = {
    "preprocess_request": "before_request",
    "process_response": "after_request",
    "do_teardown_request": "teardown_request",
    "do_teardown_appcontext": "teardown_appcontext",
    "handle_user_exception": "errorhandler",
    "handle_exception": "errorhandler",
}
"""Flask's methods, and the decorators that register the functions they call."""


def advice(part: Part, around: Surroundings) -> str:
    """One sentence, without the full stop."""
    call = part.call
    outermost = list(call.callers())[-1] if call.code else call
    if call.code is None:
        return "Flask, an extension or an import does it, outside of this app's own code"
    if _is_enqueue(call):
        return (
            "It waits for the job database, not for the job: the first enqueue of a process opens"
            " it; if it happens again, the disk is slow or another program has the file locked"
        )
    if around.is_view(call):
        return (
            "The time is spent in the view itself: move these lines into a function decorated with"
            " @offload.task and call its enqueue(...), or decorate"
            f" {function_name(call)} with @offload.respond_async"
        )
    if call is outermost and call.by in _HOOKS:
        return (
            f"It is a function for {_HOOKS[call.by]}, so it delays other routes too:"
            " enqueue its slow part as a task, or keep its result in a cache"
        )
    if any(caller.is_job for caller in call.callers()):
        return (
            'It is a job, and OFFLOAD_ENGINE = "inline" runs it where it is enqueued: with another'
            " engine a worker runs it"
        )
    if is_template(call.module):
        return (
            "The time is spent while rendering: compute these values beforehand in a function"
            " decorated with @offload.task, and render what it has stored"
        )
    if around.streams and outermost.by is None and _usage(call) is not Usage.UNUSED:
        return (
            "It runs while the response streams: write the file in a function decorated with"
            " @offload.task, and let the client fetch it when it is done"
        )
    return _advice_for_function(part, around)


def _advice_for_function(part: Part, around: Surroundings) -> str:
    call = part.call
    assert call.code is not None
    is_task = call.is_task or around.is_task(call.code)
    its = "It is a task, called inline, and its" if is_task else "Its"
    usage = _usage(call)
    if usage is Usage.UNUSED:
        if part.is_loop and _can_be_task(call):
            many = f"offload.enqueue_many([{function_name(call)}.call(...), ...])"
            how = "" if is_task else f"decorate {function_name(call)} with @offload.task and "
            return (
                f"{its} value is not used, and it is called in a loop:"
                f" {how}enqueue the calls together, {many}"
            )
        return f"{its} value is not used: {_enqueue(call, is_task)}"
    verb = "is" if usage is Usage.USED else "may be"
    movable = None if is_task else _outer_unused(call, around)
    if movable is not None:
        return (
            f"{its} value {verb} used by {function_name(movable)}, whose own value is not used:"
            f" {_enqueue(movable, is_task=False)}"
        )
    return (
        f"{its} value {verb} used: {_answer(call, is_task)},"
        f" or decorate {_view_name(call, around)} with @offload.respond_async"
    )


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


def _view_name(call: CallNode, around: Surroundings) -> str:
    names = [function_name(outer) for outer in call.callers() if around.is_view(outer)]
    return names[0] if names and "<" not in names[0] else "the view"


def _can_be_task(call: CallNode) -> bool:
    """Whether it can be decorated: no method, no lambda."""
    return function_name(call).isidentifier()


def _usage(call: CallNode) -> Usage:
    """Whether the value of this call is used; a decorator passes its function's value on."""
    for inner in call.callers():
        if inner.site is None or not inner.is_direct:
            return Usage.UNKNOWN
        site = call_site(inner.site)
        if not site.passes_on:
            return site.usage
    return Usage.UNKNOWN


def _outer_unused(call: CallNode, around: Surroundings) -> CallNode | None:
    """The innermost function around this one, within the view, whose own value is not used."""
    passes_on = _is_passed_on(call)
    for outer in list(call.callers())[1:]:
        if around.is_view(outer):
            return None
        if not passes_on and _usage(outer) is Usage.UNUSED:
            return outer
        passes_on = _is_passed_on(outer)
    return None


def _is_passed_on(call: CallNode) -> bool:
    """Whether it was called by its decorator's wrapper, or by a lambda."""
    return call.site is not None and call.is_direct and call_site(call.site).passes_on
