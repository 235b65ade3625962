"""The standard library's values that are not JSON: bytes, tuples, sets, times, numbers.

Each has a packer (value -> tagged parts) and an unpacker (parts -> value), listed in the two tables
at the end. Types are matched exactly: a subclass is never encoded as its base.
"""

from __future__ import annotations

import os
import reprlib
from binascii import a2b_base64, b2a_base64
from collections import OrderedDict
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from math import isfinite
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from .base import (
    MAX_INT,
    TAG,
    Json,
    Packer,
    Packing,
    Refused,
    Unpacker,
    Unpacking,
)

_sort_key = msgspec.json.Encoder().encode


def _tagged_text(walk: Packing, tag: str, text: str) -> Json:
    walk.spend(len(text))
    return walk.tagged(tag, text)


# --- containers --------------------------------------------------------------------------------


def _pack_list(walk: Packing, value: list[Any], depth: int) -> Json:
    return value if walk.is_plain(value) else walk.pack_all(value, depth + 1)


def _pack_tuple(walk: Packing, value: tuple[Any, ...], depth: int) -> Json:
    return walk.tagged("tuple", walk.pack_all(value, depth + 1))


def _unpack_tuple(walk: Unpacking, depth: int, items: list[Json]) -> tuple[Any, ...]:
    return tuple(walk.unpack_all(items, depth))


def _pack_set(walk: Packing, value: set[Any] | frozenset[Any], depth: int) -> Json:
    # sorted, so that equal sets give equal JSON in every process
    return walk.tagged(type(value).__name__, sorted(walk.pack_all(value, depth + 1), key=_sort_key))


def _unpack_set(walk: Unpacking, depth: int, items: list[Json]) -> set[Any]:
    return set(walk.unpack_all(items, depth))


def _unpack_frozenset(walk: Unpacking, depth: int, items: list[Json]) -> frozenset[Any]:
    return frozenset(walk.unpack_all(items, depth))


def _pack_dict(walk: Packing, value: dict[Any, Any], depth: int) -> Json:
    if TAG in value or any(type(key) is not str for key in value):
        return walk.tagged("dict", _pack_pairs(walk, value, depth))
    walk.spend(sum(map(len, value)))
    if walk.is_plain(value.values()):
        return value
    return walk.pack_fields(value.items(), depth + 1, "[{!r}]")


def _pack_ordered_dict(walk: Packing, value: OrderedDict[Any, Any], depth: int) -> Json:
    return walk.tagged("OrderedDict", _pack_pairs(walk, value, depth))


def _pack_pairs(walk: Packing, value: dict[Any, Any], depth: int) -> list[Json]:
    pairs: list[Json] = []
    for key, item in value.items():
        walk.spend(1)
        try:
            pairs.append([walk.pack(key, depth + 1), walk.pack(item, depth + 1)])
        except Refused as refused:
            refused.path = f"[{reprlib.repr(key)}]{refused.path}"
            raise
    return pairs


def _pairs(walk: Unpacking, depth: int, pairs: list[list[Json]]) -> list[tuple[Any, Any]]:
    return [(walk.unpack(key, depth), walk.unpack(item, depth)) for key, item in pairs]


def _unpack_dict(walk: Unpacking, depth: int, pairs: list[list[Json]]) -> dict[Any, Any]:
    return dict(_pairs(walk, depth, pairs))


def _unpack_ordered_dict(
    walk: Unpacking, depth: int, pairs: list[list[Json]]
) -> OrderedDict[Any, Any]:
    return OrderedDict(_pairs(walk, depth, pairs))


# --- numbers and bytes -------------------------------------------------------------------------


def _pack_int(walk: Packing, value: int, depth: int) -> Json:
    if -MAX_INT <= value <= MAX_INT:
        return value
    # hexadecimal: linear in time, and not bound by sys.set_int_max_str_digits
    walk.require(value.bit_length() // 4)
    return _tagged_text(walk, "int", f"{value:x}")


def _unpack_int(walk: Unpacking, depth: int, digits: str) -> int:
    return int(digits, 16)


def _pack_float(walk: Packing, value: float, depth: int) -> Json:
    return value if isfinite(value) else walk.tagged("float", repr(value))


def _unpack_float(walk: Unpacking, depth: int, text: str) -> float:
    return float(text)


def _pack_decimal(walk: Packing, value: Decimal, depth: int) -> Json:
    return _tagged_text(walk, "Decimal", str(value))


def _unpack_decimal(walk: Unpacking, depth: int, text: str) -> Decimal:
    return Decimal(text)


def _pack_bytes(walk: Packing, value: bytes, depth: int) -> Json:
    walk.require(len(value) * 4 // 3)
    return _tagged_text(walk, "bytes", b2a_base64(value, newline=False).decode())


def _unpack_bytes(walk: Unpacking, depth: int, text: str) -> bytes:
    return a2b_base64(text, strict_mode=True)


def _pack_uuid(walk: Packing, value: UUID, depth: int) -> Json:
    return walk.tagged("UUID", value.hex)


def _unpack_uuid(walk: Unpacking, depth: int, text: str) -> UUID:
    return UUID(text)


# --- times -------------------------------------------------------------------------------------


def _pack_moment(walk: Packing, value: datetime | time, depth: int) -> Json:
    """["datetime", text, zone, fold]; defaults at the end are left out."""
    zone = value.tzinfo
    if zone is None or _is_plain_offset(zone):
        parts: list[Json] = [value.isoformat(), None]
    else:
        try:
            packed = walk.pack(zone, depth + 1)
        except Refused as refused:
            refused.path = ".tzinfo" + refused.path
            raise
        parts = [value.replace(tzinfo=None).isoformat(), packed]
    if value.fold:
        parts.append(1)
    elif parts[1] is None:
        parts.pop()
    return walk.tagged("time" if isinstance(value, time) else "datetime", *parts)


def _is_plain_offset(zone: tzinfo) -> bool:
    """Whether isoformat() contains everything about it."""
    return type(zone) is timezone and zone.tzname(None) == _usual_name(zone)


def _usual_name(zone: timezone) -> str:
    return timezone(zone.utcoffset(None)).tzname(None)


def _unpack_datetime(
    walk: Unpacking, depth: int, text: str, zone: Json = None, fold: int = 0
) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=_zone(walk, depth, zone) or moment.tzinfo, fold=fold)


def _unpack_time(walk: Unpacking, depth: int, text: str, zone: Json = None, fold: int = 0) -> time:
    moment = time.fromisoformat(text)
    return moment.replace(tzinfo=_zone(walk, depth, zone) or moment.tzinfo, fold=fold)


def _zone(walk: Unpacking, depth: int, packed: Json) -> tzinfo | None:
    zone = walk.unpack(packed, depth)
    if zone is not None and not isinstance(zone, tzinfo):
        raise TypeError("its time zone is not a tzinfo")
    return zone


def _pack_date(walk: Packing, value: date, depth: int) -> Json:
    return walk.tagged("date", value.isoformat())


def _unpack_date(walk: Unpacking, depth: int, text: str) -> date:
    return date.fromisoformat(text)


def _pack_timedelta(walk: Packing, value: timedelta, depth: int) -> Json:
    return walk.tagged("timedelta", value.days, value.seconds, value.microseconds)


def _unpack_timedelta(
    walk: Unpacking, depth: int, days: int, seconds: int, microseconds: int
) -> timedelta:
    return timedelta(days, seconds, microseconds)


def _pack_timezone(walk: Packing, value: timezone, depth: int) -> Json:
    offset = walk.pack(value.utcoffset(None), depth + 1)
    name = value.tzname(None)
    if name == _usual_name(value):
        return walk.tagged("timezone", offset)
    return walk.tagged("timezone", offset, name)


def _unpack_timezone(walk: Unpacking, depth: int, offset: Json, *name: str) -> timezone:
    return timezone(walk.unpack(offset, depth), *name)


def _pack_zoneinfo(walk: Packing, value: ZoneInfo, depth: int) -> Json:
    if value.key is None:
        raise Refused("is a ZoneInfo without a key: make it with ZoneInfo(key)")
    return walk.tagged("ZoneInfo", value.key)


def _unpack_zoneinfo(walk: Unpacking, depth: int, key: str) -> ZoneInfo:
    return ZoneInfo(key)


# --- paths -------------------------------------------------------------------------------------


def _pack_path(walk: Packing, value: PurePosixPath | PureWindowsPath, depth: int) -> Json:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        # a file name that isn't UTF-8
        return walk.tagged(type(value).__name__, walk.pack(os.fsencode(text), depth + 1))
    return _tagged_text(walk, type(value).__name__, text)


def _path_unpacker(kind: type[PurePosixPath | PureWindowsPath]) -> Unpacker:
    def unpack(walk: Unpacking, depth: int, packed: Json) -> PurePosixPath | PureWindowsPath:
        text = walk.unpack(packed, depth)
        return kind(os.fsdecode(text) if type(text) is bytes else text)

    return unpack


_PATHS = (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)

# --- the tables --------------------------------------------------------------------------------


def _pack_unset(walk: Packing, value: msgspec.UnsetType, depth: int) -> Json:
    return walk.tagged("UNSET")


def _unpack_unset(walk: Unpacking, depth: int) -> msgspec.UnsetType:
    return msgspec.UNSET


PACKERS: dict[type, Packer] = {
    int: _pack_int,
    float: _pack_float,
    list: _pack_list,
    tuple: _pack_tuple,
    set: _pack_set,
    frozenset: _pack_set,
    dict: _pack_dict,
    OrderedDict: _pack_ordered_dict,
    bytes: _pack_bytes,
    Decimal: _pack_decimal,
    UUID: _pack_uuid,
    datetime: _pack_moment,
    date: _pack_date,
    time: _pack_moment,
    timedelta: _pack_timedelta,
    timezone: _pack_timezone,
    ZoneInfo: _pack_zoneinfo,
    msgspec.UnsetType: _pack_unset,
    **dict.fromkeys(_PATHS, _pack_path),
}

UNPACKERS: dict[str, Unpacker] = {
    "int": _unpack_int,
    "float": _unpack_float,
    "tuple": _unpack_tuple,
    "set": _unpack_set,
    "frozenset": _unpack_frozenset,
    "dict": _unpack_dict,
    "OrderedDict": _unpack_ordered_dict,
    "bytes": _unpack_bytes,
    "Decimal": _unpack_decimal,
    "UUID": _unpack_uuid,
    "datetime": _unpack_datetime,
    "date": _unpack_date,
    "time": _unpack_time,
    "timedelta": _unpack_timedelta,
    "timezone": _unpack_timezone,
    "ZoneInfo": _unpack_zoneinfo,
    "UNSET": _unpack_unset,
    **{kind.__name__: _path_unpacker(kind) for kind in _PATHS},
}
