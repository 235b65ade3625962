"""What to do about a function that blocks a request, in words."""

from __future__ import annotations

from .call_site import Usage, call_site
from .call_tree import Call
from .culprit import Part
from .stacks import is_template
from .wording import Surroundings, function_name

_HOOKS = {
    "preprocess_request": "before_request",
    "process_response": "after_request",
    "do_teardown_request": "teardown_request",
    "do_teardown_appcontext": "teardown_appcontext",
    "handle_user_exception": "errorhandler",
    "handle_exception": "errorhandler",
}
"""Flask's methods, and the decorator of the functions that they call."""


def advice(part: Part, around: Surroundings) -> str:
    """One sentence, without the full stop."""
    call = part.call
    outermost = list(call.callers())[-1] if call.code else call
    if call.code is None:
        return "An extension or the session does it, outside of this app's own code"
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
    if is_template(call.module):
        return (
            "The time is spent while rendering: compute these values beforehand in a function"
            " decorated with @offload.task, and render what it has stored"
        )
    if call is outermost and around.streams:
        return (
            "It runs while the response streams: write the file in a function decorated with"
            " @offload.task, and let the client fetch it when it is done"
        )
    return _advice_for_function(part, around)


def _advice_for_function(part: Part, around: Surroundings) -> str:
    call = part.call
    assert call.code is not None
    is_task = call.is_task or around.is_task(call.code)
    usage = _usage(call)
    if usage is Usage.UNUSED:
        said = "value is not used: " + ("" if is_task else _make_task(call))
        if part.is_loop and _can_be_task(call):
            many = f"offload.enqueue_many([{function_name(call)}.call(...), ...])"
            return f"It is called in a loop and its {said}enqueue the calls together, {many}"
        called_inline = "It is a task, called inline, and its " if is_task else "Its "
        return f"{called_inline}{said}call {_enqueue(call)}"
    movable = None if is_task else _outer_unused(call, around)
    if movable is not None:
        return (
            f"Its value is used by {function_name(movable)}, whose own value is not used:"
            f" {_make_task(movable)}call {_enqueue(movable)}"
        )
    views = [function_name(outer) for outer in call.callers() if around.is_view(outer)]
    known = "Its value is used" if usage is Usage.USED else "Its value may be used"
    if is_task:
        known = f"It is a task, called inline, and {known[0].lower()}{known[1:]}"
    return (
        f"{known}: {'' if is_task else _make_task(call)}answer with"
        f" offload.accepted({_enqueue(call)}), or decorate {views[0] if views else 'the view'}"
        " with @offload.respond_async"
    )


def _make_task(call: Call) -> str:
    name = function_name(call)
    if _can_be_task(call):
        return f"decorate {name} with @offload.task and "
    return f"call {name} from a function decorated with @offload.task and "


def _enqueue(call: Call) -> str:
    return f"{function_name(call) if _can_be_task(call) else 'that function'}.enqueue(...)"


def _can_be_task(call: Call) -> bool:
    """Whether it can be decorated as it stands: no method, no lambda."""
    return function_name(call).isidentifier()


def _usage(call: Call) -> Usage:
    """Whether the value of this call is used; what a decorator returns counts as the function's."""
    for inner in call.callers():
        if inner.site is None or not inner.is_direct:
            return Usage.UNKNOWN
        site = call_site(inner.site)
        if not site.is_wrapper:
            return site.usage
    return Usage.UNKNOWN


def _outer_unused(call: Call, around: Surroundings) -> Call | None:
    """The innermost function around this one, within the view, whose own value is not used."""
    is_wrapper = _is_wrapped(call)
    for outer in list(call.callers())[1:]:
        if around.is_view(outer):
            return None
        if not is_wrapper and _usage(outer) is Usage.UNUSED:
            return outer
        is_wrapper = _is_wrapped(outer)
    return None


def _is_wrapped(call: Call) -> bool:
    """Whether it was called by what its decorator has made of it."""
    return call.site is not None and call.is_direct and call_site(call.site).is_wrapper
