"""A task's signature: which calls fit it, and the type of each argument."""

from __future__ import annotations

import inspect
import reprlib
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from inspect import Parameter
from typing import Any, NamedTuple

from ..errors import PayloadError
from .annotations import AnnotationCheck, Mismatch, Test, compile_check, resolve
from .codecs.registry import conversion, full_name

if sys.version_info >= (3, 14):
    # annotations are evaluated lazily, and may name what is not defined
    from annotationlib import Format

    _read = partial(inspect.signature, annotation_format=Format.FORWARDREF)
else:
    _read = inspect.signature

SCALARS = frozenset({type(None), bool, int, float, str})
"""The types that need no packing, except for ints and floats that are not JSON."""
_MAX_SHAPES = 64


class Slot(NamedTuple):
    """One argument of a call: its name, the scalar types that need no test, and the test for all
    others."""

    name: str
    scalars: frozenset[type]
    test: Test | None


class Signature:
    """A function's signature, read at its first use, because annotations may name what is defined
    further down, and cached."""

    def __init__(self, func: Callable[..., Any], task_name: str) -> None:
        self._func = func
        self._task_name = task_name
        self._slots_by_shape: dict[tuple[Any, ...], tuple[Slot, ...]] = {}

    def slots(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Slot, ...]:
        """The slots of a call's arguments, keywords last. Raises PayloadError for a wrong call.

        They depend only on the call's shape: how many positional arguments, and which keywords. So
        each shape is bound once.
        """
        shape = (len(args), *kwargs)
        slots = self._slots_by_shape.get(shape)
        if slots is None:
            if len(self._slots_by_shape) >= _MAX_SHAPES:
                self._slots_by_shape.clear()
            slots = self._slots_by_shape[shape] = self._bind_shape(args, kwargs)
        return slots

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Parameter name -> value, defaults applied. Raises PayloadError for a wrong call."""
        bound = self._bound(args, kwargs)
        bound.apply_defaults()
        return bound.arguments

    def mismatch(self, slot: Slot, bad: Mismatch) -> PayloadError:
        """The error for an argument that does not fit its annotation."""
        kind = type(bad.value)
        given = f"{full_name(kind)} ({reprlib.repr(bad.value)})"
        converted = conversion(kind)
        return PayloadError(
            f"task {self._task_name!r}: argument {slot.name!r}{bad.path} must be {bad.expected},"
            f" not {given}: pass {converted or bad.expected}, or change the annotation"
        )

    @cached_property
    def _signature(self) -> inspect.Signature:
        try:
            return _read(self._func)
        except ValueError:  # some functions written in C have none
            return _read(_anything)

    @cached_property
    def _slots(self) -> Mapping[str, Slot]:
        func: Any = inspect.unwrap(self._func)
        while isinstance(func, partial):
            func = inspect.unwrap(func.func)
        parameters = self._signature.parameters
        annotations = {
            name: parameter.annotation
            for name, parameter in parameters.items()
            if parameter.annotation is not Parameter.empty
        }
        hints = resolve(annotations, getattr(func, "__module__", None) or "")
        return {
            name: _slot(parameter, compile_check(hints[name]) if name in hints else None)
            for name, parameter in parameters.items()
        }

    def _bind_shape(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Slot, ...]:
        self._bound(args, kwargs)
        positional: list[Slot] = []
        extra: Slot | None = None
        for parameter in self._signature.parameters.values():
            slot = self._slots[parameter.name]
            if parameter.kind is Parameter.VAR_POSITIONAL:
                rest = range(len(args) - len(positional))
                positional += [slot._replace(name=f"*{slot.name}[{index}]") for index in rest]
            elif parameter.kind is Parameter.VAR_KEYWORD:
                extra = slot
            elif parameter.kind is not Parameter.KEYWORD_ONLY:
                positional.append(slot)
        return (*positional[: len(args)], *(self._named(name, extra) for name in kwargs))

    def _named(self, name: str, extra: Slot | None) -> Slot:
        parameter = self._signature.parameters.get(name)
        if parameter and parameter.kind in (
            Parameter.POSITIONAL_OR_KEYWORD,
            Parameter.KEYWORD_ONLY,
        ):
            return self._slots[name]
        assert extra is not None  # or the call would not have been bound
        return extra._replace(name=name)

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            hint = "; job options go through using(…)" if "unexpected keyword" in str(error) else ""
            raise PayloadError(
                f"task {self._task_name!r} can't be called like this: {error}. Call it as"
                f" {self._call_text()}{hint}"
            ) from None

    def _call_text(self) -> str:
        name = getattr(self._func, "__name__", self._task_name)
        return f"{name}{self._signature}"


def _anything(*args: Any, **kwargs: Any) -> None:
    """Its signature replaces an unknown one."""


def _slot(parameter: Parameter, check: AnnotationCheck | None) -> Slot:
    if check is None:
        return Slot(parameter.name, SCALARS, None)
    scalars = SCALARS & check.exact
    if parameter.default is None:  # `x: int = None`, which type checkers used to accept
        scalars |= {type(None)}
    return Slot(parameter.name, scalars, check.test)
