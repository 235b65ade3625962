"""Type annotations, compiled to checks of values.

The rules are mypy's where a value can be checked: an int is accepted as a float, a bool as an int,
a subclass as its base. Other annotations (a TypeVar, a ParamSpec, a Protocol that is not
runtime_checkable, one that can't be resolved) are not checked.
"""

from __future__ import annotations

import collections.abc
import re
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

MAX_ELEMENTS = 1000
"""Elements of a container that are checked one by one. Where the type is enough (list[int],
dict[str, float]) every element is checked, because that is cheap."""

_PROMOTED: dict[type, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
_ELEMENTS = (list, tuple, set, frozenset, collections.deque)
_OWN_MODULES = ("builtins", "collections", "collections.abc")
"""Modules whose generic classes are parametrized by their elements."""
_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired)
_ABSENT = object()
_QUALIFIER = re.compile(r"(?:[\w.]*(?:ReadOnly|Annotated)\[)?(?:\w+\.)*(NotRequired|Required)\[")


class Mismatch(NamedTuple):
    """Where and how a value differs from its annotation."""

    path: str
    expected: str
    value: Any


Test = Callable[[Any], Mismatch | None]


class AnnotationCheck(NamedTuple):
    """A compiled annotation; `exact` are the types that fit without a test."""

    expected: str
    exact: frozenset[type]
    test: Test


def compile_check(annotation: Any, seen: frozenset[Any] = frozenset()) -> AnnotationCheck | None:
    """The check for a resolved annotation; None if there is nothing to check.

    seen: the enclosing types, so that a recursive type is checked one level deep.
    """
    origin = typing.get_origin(annotation)
    if origin in _WRAPPERS:
        return compile_check(typing.get_args(annotation)[0], seen)
    if hasattr(annotation, "__supertype__"):
        return compile_check(annotation.__supertype__, seen)
    if type(annotation).__name__ == "TypeAliasType":
        return None if annotation in seen else _alias_check(annotation, seen)
    if origin in (typing.Union, types.UnionType):
        return _union_check(annotation, seen)
    if origin is typing.Literal:
        return _literal_check(annotation)
    if hasattr(annotation, "__required_keys__"):
        return _typed_dict_check(annotation, seen)
    if isinstance(origin, type):
        return _generic_check(annotation, origin, seen)
    if annotation is None:
        return _instance_check(types.NoneType)
    if isinstance(annotation, type) and annotation is not object and annotation is not Any:
        return _instance_check(annotation)
    return None


def resolve(annotations: Mapping[str, Any], module: str) -> dict[str, Any]:
    """Annotations with strings evaluated in a module; Any for those that can't be evaluated.

    Typically, those name imports under TYPE_CHECKING.
    """
    namespace = vars(sys.modules[module]) if module in sys.modules else {}
    hints: dict[str, Any] = {}
    for name, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(holder, namespace, include_extras=True))
        except Exception:  # an annotation may be any expression
            hints[name] = Any
    return hints


def _qualifier(annotation: Any, written: Any) -> str | None:
    """Whether a key of a TypedDict is `Required` or `NotRequired`, if it says so: also where the
    type inside could not be evaluated, from the annotation as it is written."""
    origin = typing.get_origin(annotation)
    if origin is typing.NotRequired or origin is typing.Required:
        return "Required" if origin is typing.Required else "NotRequired"
    text = getattr(written, "__forward_arg__", written)
    found = _QUALIFIER.match(text) if isinstance(text, str) else None
    return found[1] if found else None


def name_of(annotation: Any) -> str:
    """An annotation as a programmer writes it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "None" if annotation is types.NoneType else annotation.__qualname__
    return repr(annotation).replace("typing.", "").replace("NoneType", "None")


def _alias_check(alias: Any, seen: frozenset[Any]) -> AnnotationCheck | None:
    try:
        return compile_check(alias.__value__, seen | {alias})
    except NameError:
        return None


# --- single values -----------------------------------------------------------------------------


def _instance_check(cls: type, shown_as: str | None = None) -> AnnotationCheck | None:
    if getattr(cls, "_is_protocol", False) and not getattr(cls, "_is_runtime_protocol", False):
        return None
    expected = shown_as or name_of(cls)
    accepted = _PROMOTED.get(cls, cls)

    def test(value: Any) -> Mismatch | None:
        try:
            return None if isinstance(value, accepted) else Mismatch("", expected, value)
        except TypeError:  # a class that doesn't support isinstance
            return None

    exact = {cls, bool} if cls is int else {cls, int, bool} if cls is float else {cls}
    return AnnotationCheck(expected, frozenset(exact), test)


def _union_check(annotation: Any, seen: frozenset[Any]) -> AnnotationCheck | None:
    checks = [compile_check(member, seen) for member in typing.get_args(annotation)]
    known = [check for check in checks if check is not None]
    if len(known) < len(checks):
        return None
    expected = " | ".join(check.expected for check in known)

    def test(value: Any) -> Mismatch | None:
        inside = None
        for check in known:
            if type(value) in check.exact or not (bad := check.test(value)):
                return None
            inside = inside or (bad if bad.path else None)
        return inside or Mismatch("", expected, value)

    return AnnotationCheck(expected, frozenset().union(*(check.exact for check in known)), test)


def _literal_check(annotation: Any) -> AnnotationCheck:
    options = typing.get_args(annotation)
    expected = "one of " + ", ".join(map(repr, options))

    def test(value: Any) -> Mismatch | None:
        # 1 == True, so the types have to agree as well
        if any(type(value) is type(option) and value == option for option in options):
            return None
        return Mismatch("", expected, value)

    return AnnotationCheck(expected, frozenset(), test)


# --- containers --------------------------------------------------------------------------------


def _generic_check(annotation: Any, origin: type, seen: frozenset[Any]) -> AnnotationCheck | None:
    base = _instance_check(origin, name_of(annotation))
    args = typing.get_args(annotation)
    if base is None or not args or origin.__module__ not in _OWN_MODULES:
        return base
    if origin is tuple and args[-1] is not Ellipsis:
        return _tuple_check(base, args, seen)
    if issubclass(origin, collections.abc.Mapping):
        return _mapping_check(base, args, seen) if len(args) == 2 else base
    if issubclass(origin, collections.abc.Iterable):
        return _elements_check(base, args[0], seen)
    return base


def _elements_check(base: AnnotationCheck, item: Any, seen: frozenset[Any]) -> AnnotationCheck:
    check = compile_check(item, seen)
    if check is None:
        return base

    def test(value: Any) -> Mismatch | None:
        # an iterator can be walked only once, and a str holds nothing but str
        if isinstance(value, _ELEMENTS):
            return _first_mismatch(check, value, enumerate(value)) or base.test(value)
        return base.test(value)

    return AnnotationCheck(base.expected, frozenset(), test)


def _mapping_check(
    base: AnnotationCheck, args: tuple[Any, ...], seen: frozenset[Any]
) -> AnnotationCheck:
    keys, items = (compile_check(arg, seen) for arg in args)

    def test(value: Any) -> Mismatch | None:
        if isinstance(value, dict):
            if keys and (bad := _first_mismatch(keys, value, ((k, k) for k in value))):
                return Mismatch(" has a key that", keys.expected, bad.value)
            if items and (bad := _first_mismatch(items, value.values(), value.items())):
                return bad
        return base.test(value)

    return AnnotationCheck(base.expected, frozenset(), test)


def _first_mismatch(
    check: AnnotationCheck, values: Iterable[Any], items: Iterable[tuple[Any, Any]]
) -> Mismatch | None:
    if check.exact.issuperset(map(type, values)):
        return None  # the fast path
    uncertain = ((key, value) for key, value in items if type(value) not in check.exact)
    for key, value in islice(uncertain, MAX_ELEMENTS):
        if bad := check.test(value):
            return Mismatch(f"[{reprlib.repr(key)}]{bad.path}", bad.expected, bad.value)
    return None


def _tuple_check(
    base: AnnotationCheck, args: tuple[Any, ...], seen: frozenset[Any]
) -> AnnotationCheck:
    if any(getattr(arg, "__unpacked__", typing.get_origin(arg) is typing.Unpack) for arg in args):
        return base
    checks = [compile_check(arg, seen) for arg in args]

    def test(value: Any) -> Mismatch | None:
        if not isinstance(value, tuple) or len(value) != len(checks):
            return Mismatch("", base.expected, value)
        for index, (item, check) in enumerate(zip(value, checks, strict=True)):
            if check and type(item) not in check.exact and (bad := check.test(item)):
                return Mismatch(f"[{index}]{bad.path}", bad.expected, bad.value)
        return None

    return AnnotationCheck(base.expected, frozenset(), test)


def _typed_dict_check(cls: Any, seen: frozenset[Any]) -> AnnotationCheck:
    expected = name_of(cls)
    fields: dict[str, AnnotationCheck | None] = {}
    required = set(cls.__required_keys__)
    if cls not in seen:
        for key, annotation in resolve(cls.__annotations__, cls.__module__).items():
            fields[key] = compile_check(annotation, seen | {cls})
            # `from __future__ import annotations` hides these from the class itself
            qualifier = _qualifier(annotation, cls.__annotations__[key])
            if qualifier == "NotRequired":
                required.discard(key)
            elif qualifier == "Required":
                required.add(key)

    def test(value: Any) -> Mismatch | None:
        if not isinstance(value, dict):
            return Mismatch("", expected, value)
        for key in required - value.keys():
            return Mismatch("", f"{expected} with the key {key!r}", value)
        for key, check in fields.items():
            item = value.get(key, _ABSENT)
            if item is not _ABSENT and check and (bad := check.test(item)):
                return Mismatch(f"[{key!r}]{bad.path}", bad.expected, bad.value)
        return None

    return AnnotationCheck(expected, frozenset(), test)
