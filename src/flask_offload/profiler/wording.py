"""What a report needs of the app, and how functions, files and lines are named in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from .attribution import Part
from .call_tree import CallNode
from .effects import effects_of
from .queries import Query
from .stacks import Place, is_template

_MAX_CHAIN = 6


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the wording of a report needs of the app.

    view_codes: the code of the view, without decorators; empty when it has none of its own.
    root: the app's folder, to shorten paths. is_task: whether a function is a declared task.
    streams: the response was generated while it was sent. method: of the request. queries: the SQL
    statements of the request, the most frequent first. handled: exceptions with an error handler.
    """

    view_codes: frozenset[CodeType] = frozenset()
    root: str = ""
    is_task: Callable[[CodeType], bool] = lambda code: False
    streams: bool = False
    method: str = "GET"
    queries: tuple[Query, ...] = ()
    handled: frozenset[type[Exception]] = frozenset()

    def sets_session(self, view: CallNode) -> bool:
        """Whether the view sets the session, cookies or a flashed message: then only its own
        response can carry them."""
        return view.code is not None and effects_of(view.code, view.module).session

    def reads_request(self, call: CallNode) -> bool:
        """Whether a function reads the request, which a task does not have."""
        return call.code is not None and effects_of(call.code, call.module).request

    def is_stream(self, call: CallNode) -> bool:
        """Whether a call runs while the response streams, after the view."""
        return self.streams and list(call.callers())[-1].by is None

    def is_view(self, call: CallNode) -> bool:
        """Whether this call is the call of the view, or of the generator that streams for it."""
        if self.is_stream(call) and call.parent is not None and call.parent.code is None:
            return True
        if self.view_codes:
            return call.code in self.view_codes
        return call.by == "dispatch_request"


def function_name(call: CallNode) -> str:
    """A function's name, without the function that it was defined in."""
    if call.code is None:
        return "(no code of this app)"
    if is_template(call.module):
        return str(call.module["__jinja_template__"].name or "render_template_string")
    return call.code.co_qualname.rpartition("<locals>.")[2]


def file_name(call: CallNode) -> str:
    """The whole path of the file that a function stands in; of the template, for a template."""
    if call.code is None:
        return ""
    if is_template(call.module):
        return str(call.module["__jinja_template__"].filename or "<template>")
    return call.code.co_filename


def line_number(call: CallNode, at: Place | None) -> int:
    """The line of a place in a function; of its definition, when the place is not known."""
    if at is None:
        return call.code.co_firstlineno if call.code else 0
    if is_template(call.module):
        return int(call.module["__jinja_template__"].get_corresponding_lineno(at.line))
    return at.line


def chain_of(call: CallNode, at: Place | None, root: str) -> list[str]:
    """From a place in a function out to the view: `mail.py:10 send_welcome`, `app.py:30 signup`."""
    chain = [_step(call, at, root)]
    for called in call.callers():
        caller = called.parent
        if caller is None or caller.code is None:
            break
        if caller.code is not called.code:  # a recursion is one step
            chain.append(_step(caller, called.site, root))
    if len(chain) > _MAX_CHAIN:
        chain[_MAX_CHAIN - 2 : -1] = ["..."]
    return chain


def callers_of(part: Part) -> list[tuple[str, float]]:
    """Who called a function that was called in several ways, and the share of its time that each
    stands for. It is the innermost callers that differ who are named."""
    if not part.ways:
        return []
    outward = [list(way.call.callers())[1:] for way in part.ways]
    depth = 0
    while len({_code_at(calls, depth) for calls in outward}) == 1:
        depth += 1
    shares: dict[str, float] = {}
    for way, calls in zip(part.ways, outward, strict=True):
        name = function_name(calls[depth]) if depth < len(calls) else "Flask"
        shares[name] = shares.get(name, 0.0) + way.spent.seconds / part.spent.seconds
    return list(shares.items())


def _code_at(calls: list[CallNode], depth: int) -> object:
    return calls[depth].code if depth < len(calls) else None


def _step(call: CallNode, at: Place | None, root: str) -> str:
    path = Path(file_name(call))
    return f"{short_path(path, root)}:{line_number(call, at)} {function_name(call)}"


def short_path(path: Path, root: str) -> str:
    """A path within the app's folder, else the file's name."""
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else path.name


def place_of(query: Query, root: str) -> str:
    """Where the user's code caused a statement: `shop.py:12`; "" when none of it did."""
    if query.code is None:
        return ""
    template = query.module.get("__jinja_template__")
    if template is not None:
        name = template.name or "render_template_string"
        return f"{name}:{template.get_corresponding_lineno(query.line)}"
    return f"{short_path(Path(query.code.co_filename), root)}:{query.line}"
