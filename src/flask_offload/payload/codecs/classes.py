"""Data classes of the app: dataclasses, enums, named tuples and msgspec Structs.

They are encoded as the class's name and the values of the fields. A name in a payload is looked up
only in modules that are loaded already, and must belong to a class of the same kind; nothing is
imported, and no code of the class is run to build the value, except for a Struct's constructor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum, Flag
from types import ModuleType
from typing import Any

import msgspec

from ...errors import PayloadError
from ..main_module import main_module
from .base import Json, Packer, Packing, Refused, Unpacker, Unpacking

_UNSET = object()

# --- names -------------------------------------------------------------------------------------


def class_name(cls: type) -> str:
    """`module:Class`, as it is written in a payload."""
    module = main_module() if cls.__module__ == "__main__" else cls.__module__
    return f"{module}:{cls.__qualname__}"


def find_class(name: str, is_kind: Callable[[type], bool]) -> type:
    """The loaded class of that name and kind. Raises PayloadError."""
    for cls in _candidates(name):
        if is_kind(cls):
            return cls
    raise PayloadError(
        f"it needs the class {name[:200]!r}, which no loaded module has, or which is of"
        " another kind now: import its module where the task is declared"
    )


def require_findable(cls: type) -> None:
    """Raise Refused for a class that find_class() could not find in a worker."""
    if not any(found is cls for found in _candidates(class_name(cls))):
        raise Refused(
            f"is of the class {cls.__qualname__}, which can't be found again by its name:"
            " define it at the top level of a module"
        )


def _candidates(name: str) -> Iterator[type]:
    module, _, qualname = name.partition(":")
    # the module "app" of other processes may be the script here
    for key in ("__main__", module) if main_module() == module else (module,):
        found: Any = sys.modules.get(key)
        for part in qualname.split("."):
            # by type() and vars(), not by isinstance() and getattr(): no proxy, descriptor or
            # module __getattr__ is called
            found = vars(found).get(part) if issubclass(type(found), type | ModuleType) else None
        if issubclass(type(found), type):
            yield found


# --- enums -------------------------------------------------------------------------------------


def _is_enum(cls: type) -> bool:
    return issubclass(cls, Enum)


def _enum_packer(cls: type[Enum]) -> Packer:
    name = class_name(cls)

    def pack(walk: Packing, value: Enum, depth: int) -> Json:
        walk.spend(len(name))
        if isinstance(value, Flag):
            return walk.tagged("enum", name, walk.pack(value._value_, depth + 1))
        if cls.__members__.get(value._name_) is not value:
            raise Refused(f"is not a declared member of {cls.__qualname__}: pass one that is")
        return walk.tagged("enum", name, value._name_)

    return pack


def _unpack_enum(walk: Unpacking, depth: int, name: str, member: Json) -> Enum:
    cls: type[Enum] = find_class(name, _is_enum)
    if issubclass(cls, Flag):
        return cls(walk.unpack(member, depth))
    return cls.__members__[member]


# --- dataclasses -------------------------------------------------------------------------------


def _is_dataclass(cls: type) -> bool:
    return is_dataclass(cls)


def _dataclass_packer(cls: type) -> Packer:
    name = class_name(cls)
    names = [field.name for field in fields(cls)]
    slots = {slot for base in cls.__mro__ for slot in _slots(base)}
    constructor: Any = cls.__new__
    if constructor is not object.__new__ or slots - {*names, "__dict__", "__weakref__"}:
        raise Refused(
            f"is a {cls.__qualname__}, a dataclass that stores more than its fields:"
            f" register it with offload.codec({cls.__qualname__}, encode, decode)"
        )

    def pack(walk: Packing, value: Any, depth: int) -> Json:
        state = {key: getattr(value, key, _UNSET) for key in names}
        for key, extra in getattr(value, "__dict__", {}).items():
            # a value over a descriptor is the cache of a cached_property
            # `__orig_class__` is what typing notes on an instance of a generic class
            is_state = key != "__orig_class__" and key not in state
            if is_state and not hasattr(getattr(cls, key, None), "__get__"):
                state[key] = extra
        items = ((key, item) for key, item in state.items() if item is not _UNSET)
        walk.spend(len(name))
        return walk.tagged("dataclass", name, walk.pack_fields(items, depth + 1, ".{}"))

    return pack


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _unpack_dataclass(walk: Unpacking, depth: int, name: str, packed: dict[str, Json]) -> Any:
    """Set the fields on a new instance: __init__ and __post_init__ have run once, at enqueue."""
    cls = find_class(name, _is_dataclass)
    state = walk.unpack_fields(packed, depth)
    value: Any = object.__new__(cls)
    for field in fields(cls):
        item = state.pop(field.name, _UNSET)
        if item is _UNSET:
            item = _default(field, name)
        if item is not _UNSET:
            object.__setattr__(value, field.name, item)
    if hasattr(value, "__dict__"):
        value.__dict__.update(state)
    return value


def _default(field: Field[Any], name: str) -> Any:
    """The value of a field that the class did not have when the value was packed."""
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    if field.init:
        raise PayloadError(_lacks(name, field.name))
    return _UNSET


def _lacks(name: str, field: str) -> str:
    return (
        f"it holds a {name} without {field!r}: the class has changed since;"
        " give the new field a default"
    )


# --- named tuples ------------------------------------------------------------------------------


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def _namedtuple_packer(cls: Any) -> Packer:
    name = class_name(cls)
    names: tuple[str, ...] = cls._fields

    def pack(walk: Packing, value: Any, depth: int) -> Json:
        if getattr(value, "__dict__", None):
            raise Refused(
                f"is a {cls.__qualname__}, a named tuple that stores more than its fields:"
                f" register it with offload.codec({cls.__qualname__}, encode, decode)"
            )
        items = zip(names, value, strict=True)
        walk.spend(len(name))
        return walk.tagged("namedtuple", name, walk.pack_fields(items, depth + 1, ".{}"))

    return pack


def _unpack_namedtuple(walk: Unpacking, depth: int, name: str, packed: dict[str, Json]) -> Any:
    cls: Any = find_class(name, _is_namedtuple)
    state = {**cls._field_defaults, **walk.unpack_fields(packed, depth)}
    for field in cls._fields:
        if field not in state:
            raise PayloadError(_lacks(name, field))
    return tuple.__new__(cls, [state[field] for field in cls._fields])


# --- msgspec Structs ---------------------------------------------------------------------------


def _is_struct(cls: type) -> bool:
    return issubclass(cls, msgspec.Struct)


def _struct_packer(cls: type[msgspec.Struct]) -> Packer:
    name = class_name(cls)
    names = cls.__struct_fields__

    def pack(walk: Packing, value: msgspec.Struct, depth: int) -> Json:
        if getattr(value, "__dict__", None):
            raise Refused(
                f"is a {cls.__qualname__}, a Struct that stores more than its fields:"
                f" register it with offload.codec({cls.__qualname__}, encode, decode)"
            )
        items = ((key, getattr(value, key)) for key in names)
        walk.spend(len(name))
        return walk.tagged("struct", name, walk.pack_fields(items, depth + 1, ".{}"))

    return pack


def _unpack_struct(walk: Unpacking, depth: int, name: str, packed: dict[str, Json]) -> Any:
    """Structs can't be created without their constructor, so __post_init__ runs here; fields that
    it changes are then reset to the packed values."""
    cls = find_class(name, _is_struct)
    state = {
        key: item
        for key, item in walk.unpack_fields(packed, depth).items()
        if key in cls.__struct_fields__  # type: ignore[attr-defined]
    }
    value = cls(**state)
    if hasattr(cls, "__post_init__"):
        for key, item in state.items():
            msgspec.structs.force_setattr(value, key, item)
    return value


# --- all together ------------------------------------------------------------------------------

_KINDS: tuple[tuple[Callable[[type], bool], Callable[[Any], Packer]], ...] = (
    (_is_enum, _enum_packer),
    (_is_dataclass, _dataclass_packer),
    (_is_struct, _struct_packer),
    (_is_namedtuple, _namedtuple_packer),
)

UNPACKERS: dict[str, Unpacker] = {
    "enum": _unpack_enum,
    "dataclass": _unpack_dataclass,
    "struct": _unpack_struct,
    "namedtuple": _unpack_namedtuple,
}


def find_packer(cls: type) -> Packer | None:
    """The packer for a class of one of these kinds. Raises Refused if it can't be found again."""
    for is_kind, make in _KINDS:
        if is_kind(cls):
            require_findable(cls)
            return make(cls)
    return None
