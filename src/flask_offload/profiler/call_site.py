"""Reads from the source which call is at a place in user code, and whether its value is used.

This is a hint, not a proof: a function may also be needed for the exception that it raises, or for
what it changes.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import itertools
from dataclasses import dataclass, field
from enum import Enum
from types import BuiltinFunctionType, CodeType, ModuleType
from typing import Any

from .stacks import Place

_MAX_NAME = 60


class Usage(Enum):
    """What is done with a call's value."""

    UNUSED = "not used"
    USED = "used"
    DECIDES = "used in a condition"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class CallSite:
    """The call at a place. name: the called function as it is written, such as "time.sleep"; None
    if no call stands there. passes_on: its value is that of the function around it, a decorator's
    wrapper or a lambda. is_guarded: an error in it is handled, by more than a line in a log.
    is_polling: it is in a `while`. call: the expression."""

    name: str | None
    usage: Usage
    passes_on: bool
    is_guarded: bool = False
    is_polling: bool = False
    call: ast.Call | None = field(default=None, compare=False)


@functools.lru_cache(maxsize=512)
def call_site(place: Place) -> CallSite:
    """Look the place up in the source file. Unknown if that can't be read, or has changed."""
    source = parsed(place.function)
    found = _find(source, _position(place)) if source else None
    if source is None or found is None:
        # the source lines of a lambda are seldom a statement; most lambdas only call something
        return CallSite(None, Usage.UNKNOWN, place.code.co_name == "<lambda>")
    node, *outward = found
    operation = _operation(place)
    if operation in _ENTERS or isinstance(node, ast.With | ast.AsyncWith):
        name = "with " + ast.unparse(_entered(found))
        return CallSite(name, Usage.USED, False, _is_guarded(found))
    call = node.value if isinstance(node, ast.Await) else node
    if not isinstance(call, ast.Call) or operation in _ITERATES:
        decides = _usage([node, *outward], source) is Usage.DECIDES
        usage = Usage.DECIDES if decides else Usage.USED
        return CallSite(None, usage, False, _is_guarded(found))
    name = ast.unparse(call.func)
    return CallSite(
        name if len(name) <= _MAX_NAME else None,
        _usage(outward, source),
        _passes_on(call, outward, place.code),
        _is_guarded(found),
        any(isinstance(each, ast.While) for each in outward),
        call,
    )


# From Python 3.13 on, the instructions of a statement have the position of its expression: entering
# `with lock():` has the position of the call.
_ENTERS = ("BEFORE_WITH", "BEFORE_ASYNC_WITH")
_ITERATES = ("GET_ITER", "FOR_ITER", "GET_AITER", "GET_ANEXT")


def _operation(place: Place) -> str:
    """The name of the instruction, which differs from one Python to the next."""
    return dis.opname[place.code.co_code[place.lasti]]


def _entered(found: list[ast.AST]) -> ast.withitem:
    """The part of a with statement that is being entered; before Python 3.13, its first."""
    item = next(each for each in found if isinstance(each, ast.withitem | ast.With | ast.AsyncWith))
    return item if isinstance(item, ast.withitem) else item.items[0]


def _passes_on(call: ast.Call, outward: list[ast.AST], code: CodeType) -> bool:
    if isinstance(outward[0], ast.Lambda):
        return True
    # a decorator's wrapper passes on its own arguments; a function that an app factory defines is a
    # closure too, but is called with other arguments
    is_of_closure = isinstance(call.func, ast.Name) and call.func.id in code.co_freevars
    return is_of_closure and any(isinstance(each, ast.Starred) for each in call.args)


def full_name(name: str, module: dict[str, Any]) -> str:
    """The qualified name of a function: `sleep` is `time.sleep` after an import of it.

    Only attributes of modules are read, so that no code of the user runs.
    """
    first, *rest = name.split(".")
    value = module.get(first)
    for part in rest:
        if not isinstance(value, ModuleType):
            return name
        value = vars(value).get(part)
    if isinstance(value, BuiltinFunctionType) and isinstance(value.__module__, str):
        return f"{value.__module__}.{value.__qualname__}"
    return name


_Span = tuple[int | None, int | None, int | None, int | None]


def _position(place: Place) -> _Span:
    # one entry for each code unit of two bytes
    positions = list(place.code.co_positions())
    index = place.lasti // 2
    return positions[index] if 0 <= index < len(positions) else (None, None, None, None)


@functools.lru_cache(maxsize=64)
def parsed(function: CodeType) -> ast.Module | None:
    try:
        lines, first = inspect.getsourcelines(function)
        source = "".join(lines)
        if source[:1] in " \t":  # a method: indented code needs a block around it
            source, first = "if 1:\n" + source, first - 1
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None
    return ast.increment_lineno(tree, max(first, 1) - 1) if first > 1 else tree


def _find(source: ast.Module, span: _Span) -> list[ast.AST] | None:
    """The node that an instruction with this span belongs to, and the nodes around it."""
    if None in span:
        return None
    found: list[list[ast.AST]] = []
    pending: list[list[ast.AST]] = [[source]]
    while pending:
        chain = pending.pop()
        if _matches(chain[0], span):
            found.append(chain)
        pending.extend([child, *chain] for child in ast.iter_child_nodes(chain[0]))
    calls = (chain for chain in found if isinstance(chain[0], _CALLS))
    return next(calls, found[0] if found else None)


_CALLS = (ast.Await, ast.Call, ast.With, ast.AsyncWith)


def _matches(node: ast.AST, span: _Span) -> bool:
    if not isinstance(node, ast.expr | ast.stmt):
        return False
    if (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset) == span:
        return True
    # a method call over several lines: for the compiler it begins with the method's name
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.end_lineno, node.end_col_offset) == (span[1], span[3])
        and node.func.end_lineno == span[0] != node.lineno
    )


def _usage(outward: list[ast.AST], source: ast.Module) -> Usage:
    statement = outward[0] if outward else None
    if isinstance(statement, ast.Await):
        statement = outward[1]
    if isinstance(statement, ast.Expr):
        return Usage.UNUSED
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if len(names) == len(targets):
            return _usage_of_names(set(names), source)
    if any(_is_condition(inner, outer) for inner, outer in itertools.pairwise(outward)):
        return Usage.DECIDES
    return Usage.USED


def _is_condition(inner: ast.AST, outer: ast.AST) -> bool:
    return isinstance(outer, ast.If | ast.While | ast.IfExp | ast.Assert) and inner is outer.test


def _usage_of_names(names: set[str], source: ast.Module) -> Usage:
    """What is done with a value of these names; other code of the module may read a global."""
    if not _read_anywhere(names, source):
        return Usage.UNUSED
    tests = (
        node.test
        for node in ast.walk(source)
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert)
    )
    read_in_tests = {name for test in tests for name in names_read(test)}
    return Usage.DECIDES if names & read_in_tests else Usage.USED


def names_read(node: ast.AST) -> set[str]:
    """The names that an expression reads."""
    return {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Store)
    }


def _is_guarded(outward: list[ast.AST]) -> bool:
    """Whether it is in a `try` whose handler does more than to log: it decides something."""
    for inner, outer in itertools.pairwise(outward):
        if isinstance(outer, ast.Try) and inner in outer.body:
            handling = [statement for each in outer.handlers for statement in each.body]
            return not all(map(_only_logs, handling))
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            break
    return False


def _only_logs(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass | ast.Continue):
        return True
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return isinstance(statement, ast.Expr)  # a docstring, or `...`
    words = ast.unparse(statement.value.func).lower().split(".")
    return "print" in words or any("log" in word for word in words[:-1])


def _read_anywhere(names: set[str], source: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id in names and not isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.Global | ast.Nonlocal) and names & set(node.names))
        for node in ast.walk(source)
    )
