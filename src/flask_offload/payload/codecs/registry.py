"""The codecs of an Offload: the built-in ones, and the app's own."""

from __future__ import annotations

import builtins
import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, TypeVar
from uuid import UUID

from ...errors import PayloadError
from . import classes, files, mail, rows, values
from .base import Finder, Json, Packer, Packing, Refused, Unpacker, Unpacking
from .classes import class_name
from .rows import GetSession

T = TypeVar("T")

LAZY_TEXTS = frozenset({"LazyString", "LazyProxy", "_LazyString"})
"""Classes of flask_babel, speaklater, babel and flask_babelex."""

MISSING = frozenset({"NaTType", "NAType"})
"""Classes of pandas' values for "none": NaT is a datetime whose conversion is NaT again."""

_OWN_TOLIST = {
    "longdouble": "float(value)",
    "clongdouble": "[float(value.real), float(value.imag)]",
}
"""Numbers of numpy's that `tolist()` returns as they are."""

_BY_BASE = {
    datetime: "datetime.fromisoformat(value.isoformat())",
    date: "date.fromordinal(value.toordinal())",
    time: "time.fromisoformat(value.isoformat())",
    timedelta: "timedelta(seconds=value.total_seconds())",
    UUID: "UUID(int=value.int)",
}
"""How an instance of a subclass becomes one of its base that has no call for that."""

_BUILT_IN = frozenset({*values.PACKERS, type(None), bool, str})
_FINDERS: tuple[Finder, ...] = (
    files.find_packer,
    mail.find_packer,
    rows.find_packer,
    classes.find_packer,
)


class Codecs:
    """One per Offload. The packer of a class is looked up once and cached."""

    def __init__(self) -> None:
        self.session: GetSession | None = None
        """Returns the SQLAlchemy session that fetches rows in a job; None: Flask-SQLAlchemy's."""
        self.packers: dict[type, Packer] = _Packers(values.PACKERS)
        self.unpackers: Mapping[str, Unpacker] = {
            **values.UNPACKERS,
            **classes.UNPACKERS,
            **files.UNPACKERS,
            **mail.UNPACKERS,
            "row": rows.row_unpacker(lambda: self.session),
            "codec": self._unpack,
        }
        self._own: dict[str, tuple[type, Callable[[Any], Any]]] = {}

    def register(
        self,
        type_: type[T],
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        *,
        name: str | None = None,
    ) -> None:
        """Add a codec: `encode` turns an instance into values that can be encoded, `decode` turns
        those into an instance again, in the job.

        It is for instances of `type_` itself, not of its subclasses, and takes precedence over the
        built-in codecs of dataclasses, enums and so on.

        name: the tag in the payload; `module:Class` by default. Give one if the class may move
        while jobs wait. Raises PayloadError for a built-in type, and for a name that another class
        has.
        """
        if type_ in _BUILT_IN:
            raise PayloadError(f"{type_.__name__} needs no codec: it is built in")
        name = name or class_name(type_)
        owner = self._own.get(name, (type_, None))[0]
        if class_name(owner) != class_name(type_):
            raise PayloadError(
                f"the codec name {name!r} belongs to {owner.__qualname__}: choose another name"
            )
        self._own[name] = (type_, decode)
        self.packers[type_] = _own_packer(name, encode)

    def _unpack(self, walk: Unpacking, depth: int, name: str, packed: Json) -> Any:
        if name not in self._own:
            raise PayloadError(
                f"it needs the codec {name[:200]!r}, which is not registered here: call"
                " offload.codec(…) where the app is created"
            )
        state = walk.unpack(packed, depth)
        try:
            return self._own[name][1](state)
        except Exception as error:
            raise PayloadError(
                f"the codec {name!r} can't decode it: {type(error).__name__}: {error}"
            ) from error


def _own_packer(name: str, encode: Callable[[Any], Any]) -> Packer:
    def pack(walk: Packing, value: Any, depth: int) -> Json:
        try:
            state = encode(value)
        except Exception as error:
            raise Refused(
                f"can't be encoded by its codec {name!r}: {type(error).__name__}: {error}"
            ) from error
        return walk.tagged("codec", name, walk.pack(state, depth + 1))

    return pack


class _Packers(dict[type, Packer]):
    """The packers by exact type; a new type is looked up once."""

    def __missing__(self, cls: type) -> Packer:
        if cls.__module__.startswith("freezegun."):  # a real moment of a frozen clock
            return self[next(base for base in cls.__mro__ if base.__module__ == "datetime")]
        for find in _FINDERS:
            if packer := find(cls):
                self[cls] = packer
                return packer
        raise Refused(f"is of type {full_name(cls)}, which can't be encoded: {_remedy(cls)}")


def full_name(cls: type) -> str:
    """The name of a class, with its module where the name alone would be that of a built-in type,
    as for numpy's bool, or no name of a type at all, as for pytz's Europe/Berlin."""
    name = cls.__qualname__
    is_clear = not hasattr(builtins, name) and name.replace(".", "").isidentifier()
    return name if cls.__module__ == "builtins" or is_clear else f"{cls.__module__}.{name}"


def _remedy(cls: type) -> str:
    """What to pass instead of an instance of this class."""
    own = f"offload.codec({full_name(cls)}, encode, decode)"
    if issubclass(cls, tzinfo):
        return "pass the moment with another one: moment.astimezone(ZoneInfo(key)) or (UTC)"
    if cls.__name__ == "LocalProxy":
        return "pass the value behind the proxy, or better its id"
    if issubclass(cls, io.IOBase):
        return "pass the file's path or its bytes"
    if issubclass(cls, Iterator | range | deque | bytearray | memoryview):
        plain = "bytes" if issubclass(cls, bytearray | memoryview) else "list"
        return f"pass {plain}(value)"
    if issubclass(cls, Mapping):
        return f"pass dict(value), or register a codec with {own}"
    if cls.__name__ in LAZY_TEXTS:
        return "pass str(value)"
    if converted := conversion(cls):
        return f"pass {converted}, or register a codec with {own}"
    for base in cls.__mro__[1:]:
        if base in _BUILT_IN:
            return f"pass {base.__name__}(value), or register a codec with {own}"
    return f"pass an id or plain values, or register a codec with {own}"


def conversion(cls: type) -> str | None:
    """How a value of a well-known library is converted to a plain one."""
    if cls.__name__ in MISSING:
        return "None"
    if cls.__name__ in _OWN_TOLIST:
        return _OWN_TOLIST[cls.__name__]
    methods = [
        method
        for method in ("to_pydatetime", "model_dump", "tolist", "_asdict")
        if callable(getattr(cls, method, None))
    ]
    if methods[:2] == ["to_pydatetime", "tolist"]:  # of many moments: it returns an array
        return "value.to_pydatetime().tolist()"
    if methods:
        return f"value.{methods[0]}()"
    return next((text for base, text in _BY_BASE.items() if issubclass(cls, base)), None)
