"""Reads from the source what a function does besides returning a value.

Hints, like all that is read from source: what a function does is followed through the user's own
functions, as far as they are called by name.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import flask
from werkzeug.exceptions import HTTPException

from .call_site import names_read, parsed

_DEPTH = 3
"""Calls of the user's functions that are followed."""
_COMMITS = frozenset({"commit", "flush", "save", "bulk_save_objects", "merge"})
_CHANGING = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
        "remove", "reverse", "setdefault", "sort", "update", "write", "writelines", "seek",
        "truncate", "writerow", "writerows", "put",
    }
)  # fmt: skip
_SESSION = frozenset(
    {"flash", "login_user", "logout_user", "set_cookie", "delete_cookie", "after_this_request",
     "login_fresh", "confirm_login", "set_access_cookies", "unset_jwt_cookies"}
)  # fmt: skip
_CHECKS = ("check", "validate", "verify", "require", "ensure", "authorize", "assert", "must")


@dataclass(frozen=True, slots=True)
class Effects:
    """What a function does. changes: names of its parameters whose objects it changes. shared: it
    changes data of this process. answers: it may end the request by an exception. session: it sets
    the session, cookies, `g` or a flashed message. request: it reads the request. commits: it
    writes changed objects to the database."""

    changes: frozenset[str] = frozenset()
    shared: bool = False
    answers: bool = False
    session: bool = False
    request: bool = False
    commits: bool = False


def effects_of(
    code: CodeType, module: dict[str, Any], handled: Iterable[type[Exception]] = ()
) -> Effects:
    """What a function does. handled: exceptions that have an error handler."""
    return _effects(code, _Module(module, tuple(handled)), _DEPTH)


@dataclass(frozen=True)
class _Module:
    names: dict[str, Any]
    handled: tuple[type[Exception], ...]


def _effects(code: CodeType, module: _Module, depth: int) -> Effects:
    definition = _definition(code)
    if definition is None:
        return Effects()
    parameters = {each.arg for each in ast.walk(definition.args) if isinstance(each, ast.arg)}
    local = parameters | _assigned(definition)
    changed, session, answers = set[str](), False, False
    read = names_read(definition)
    commits = request = False
    for node in _own_nodes(definition):
        changed |= _changed_roots(node)
        if isinstance(node, ast.Call):
            changed |= _changed_by_method(node, local, module)
            name = _last_name(node.func)
            session |= name in _SESSION
            commits |= name in _COMMITS
            answers |= name == "abort"
            inner = _called(node, module) if depth else None
            if inner is not None:
                found = _effects(
                    inner.__code__, _Module(inner.__globals__, module.handled), depth - 1
                )
                changed |= _passed(node, inner.__code__, found.changes)
                if found.shared:
                    changed.add("<shared>")
                session |= found.session
                answers |= found.answers
                commits |= found.commits
                request |= found.request
        elif isinstance(node, ast.Raise):
            answers |= _answers(node, code, module)
        elif isinstance(node, ast.Global):
            changed.add("<shared>")
        elif isinstance(node, ast.While):
            answers |= _waits(node)
        elif isinstance(node, ast.Constant):
            session |= node.value == "Set-Cookie"
    roots = changed - local
    proxies = {root for root in roots if _is_any_of(root, module, (flask.session, flask.g))}
    return Effects(
        frozenset(changed & parameters),
        any(not _is_elsewhere(root, module) for root in roots - proxies),
        answers,
        session or bool(proxies),
        request or bool(read & ({"request"} - local)),
        commits,
    )


@functools.lru_cache(maxsize=256)
def _definition(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    source = parsed(code)
    functions = ast.walk(source) if source is not None else ()
    return next(
        (
            node
            for node in functions
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == code.co_name
        ),
        None,
    )


def _own_nodes(definition: ast.AST) -> Iterable[ast.AST]:
    """All nodes, without those of functions that are defined inside: they may never be called."""
    pending = list(ast.iter_child_nodes(definition))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            pending.extend(ast.iter_child_nodes(node))


def _assigned(definition: ast.AST) -> set[str]:
    """The local names; without those that are declared global or nonlocal."""
    names, outer = set[str](), set[str]()
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            outer.update(node.names)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.module == "flask":
            outer.update(each.asname or each.name for each in node.names)
    return names - outer


def _changed_roots(node: ast.AST) -> set[str]:
    """The names whose objects a statement or a call changes: `a.b = 1`, `a.append(1)`."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id == "setattr" and node.args:
            return {root_of(node.args[0])} - {""}
        return set()
    flat = [each for target in targets for each in getattr(target, "elts", [target])]
    inside = [each for each in flat if isinstance(each, ast.Attribute | ast.Subscript)]
    return {root_of(each) for each in inside} - {""}


def _changed_by_method(node: ast.Call, local: set[str], module: _Module) -> set[str]:
    """The name of the container that a call of a method changes: `rows.append(7)`."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in _CHANGING:
        return set()
    root = root_of(node.func.value)
    kind = type(module.names.get(root)).__module__
    is_container = kind in ("builtins", "collections", "queue", "_queue")
    is_proxy = _is_any_of(root, module, (flask.session, flask.g))
    return {root} if root and (root in local or is_container or is_proxy) else set()


def _is_any_of(root: str, module: _Module, values: tuple[object, ...]) -> bool:
    """Whether a name, or a name of the module `flask`, refers to one of these objects."""
    value = module.names.get(root)
    if value is None:
        value = getattr(flask, root.removeprefix("flask."), None)
    return any(value is each for each in values)


def _is_elsewhere(root: str, module: _Module) -> bool:
    """Whether what a name refers to belongs to the request or to the database."""
    kind = type(module.names.get(root)).__module__.partition(".")[0]
    return (
        root in ("request", "response", "db", "flask.request")
        or _is_any_of(root, module, (flask.request, flask.current_app))
        or kind in ("sqlalchemy", "flask_sqlalchemy")
    )


def _waits(loop: ast.While) -> bool:
    """Whether a loop sleeps until something has happened."""
    calls = (node for node in ast.walk(loop) if isinstance(node, ast.Call))
    return any(_last_name(call.func) == "sleep" for call in calls)


def root_of(node: ast.AST) -> str:
    """The name at the beginning of `name.attribute[key].attribute`; "" when there is none.

    `flask.session` counts as a name.
    """
    inner: ast.AST = node
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        inner, node = node, node.value
    if not isinstance(node, ast.Name):
        return ""
    if node.id == "flask" and isinstance(inner, ast.Attribute):
        return f"flask.{inner.attr}"
    return node.id


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _called(node: ast.Call, module: _Module) -> FunctionType | None:
    """The user's function that is called by its name; None for all others."""
    found = module.names.get(node.func.id) if isinstance(node.func, ast.Name) else None
    return found if isinstance(found, FunctionType) and parsed(found.__code__) else None


def _passed(node: ast.Call, code: CodeType, changes: frozenset[str]) -> set[str]:
    """The names at the call whose objects the called function changes."""
    return {root_of(value) for name, value in arguments_of(node, code, 0) if name in changes} - {""}


def arguments_of(node: ast.Call, code: CodeType, first: int) -> Iterable[tuple[str, ast.expr]]:
    """The parameters of a function, and the expressions that a call passes for them. first: 1 when
    the first parameter is the object of a method."""
    names = code.co_varnames[first : code.co_argcount]
    yield from zip(names, node.args, strict=False)
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value


def _answers(node: ast.Raise, code: CodeType, module: _Module) -> bool:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    if raised is None:
        return False
    kind = module.names.get(_last_name(raised))
    if isinstance(kind, type) and issubclass(kind, (HTTPException, *module.handled)):
        return True
    return code.co_name.lstrip("_").startswith(_CHECKS)


def reaches_answer(names: set[str], code: CodeType, call: ast.Call) -> bool:
    """Whether the answer of a function depends on the objects with these names, apart from `call`.

    It does if one is returned or yielded, decides something, or is given to another name for which
    that holds.
    """
    definition = _definition(code)
    if definition is None:
        return True
    relevant, grew = set[str](), True
    nodes = list(_own_nodes(definition))
    for node in nodes:
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom | ast.Raise | ast.Assert):
            relevant |= names_read(node)
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            relevant |= names_read(node.test)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            relevant |= set(node.names)
    while grew:
        before = len(relevant)
        for node in nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(root_of(target) in relevant for target in targets):
                    relevant |= names_read(node.value)
                relevant |= _handles(node.value, list(targets), relevant)
            elif isinstance(node, ast.withitem) and node.optional_vars is not None:
                relevant |= _handles(node.context_expr, [node.optional_vars], relevant)
            elif isinstance(node, ast.For) and _stored(node) & relevant:
                relevant |= names_read(node.iter)
            elif isinstance(node, ast.Call) and node is not call and root_of(node.func) in relevant:
                for value in node.args:
                    relevant |= names_read(value)
        grew = len(relevant) > before
    return bool(names & relevant)


def _handles(value: ast.expr, targets: Sequence[ast.expr], relevant: set[str]) -> set[str]:
    """The names of what is made of a relevant object, and may write to it: `ZipFile(out)`."""
    given = [*value.args, *value.keywords] if isinstance(value, ast.Call) else []
    if any(names_read(each) & relevant for each in given):
        return {root_of(target) for target in targets} - {""}
    return set()


def _stored(node: ast.For) -> set[str]:
    return {each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)}
