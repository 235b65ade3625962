"""The walk over a value: into JSON (Packing) and back (Unpacking).

None, bool, str, finite floats, 64-bit ints, lists, and dicts with str keys are plain JSON.
Everything else becomes `{"$": [tag, part, …]}`. A dict that has the key "$" is tagged too, so in
encoded data `"$"` always means a tag: no value can be decoded as another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from ...errors import PayloadError

if TYPE_CHECKING:
    from ..spool import Spool

Json = Any
"""A JSON value: None, bool, int, float, str, list, dict with str keys."""

TAG = "$"
MAX_DEPTH = 64
"""Nested containers. Each takes at most five levels of JSON, so that packing and unpacking stay
far below Python's recursion limit of 1000."""
MAX_INT = 2**63 - 1
"""Larger ints are tagged: JSON readers differ on them, and Python refuses long decimal texts."""


class Refused(Exception):
    """A value can't be encoded. `path` leads to it: `['rows'][3]`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""


class OverBudget(Exception):
    """The value takes more bytes than allowed."""


class FetchFailed(Exception):
    """Wraps an error of the app's database, which is not an error of the data."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Saves(Protocol):
    """The part of a Spool that packing uses."""

    def save(self, stream: BinaryIO) -> str:
        """Store the rest of the stream; returns its name."""


class Packing:
    """Packs one value, or the arguments of one call, into JSON.

    `left` is a budget of bytes. Each part is charged less than it will take, which ends the walk
    early when a small value refers to a large one a thousand times.
    """

    __slots__ = ("files", "left", "packers", "spool")

    def __init__(self, packers: Mapping[type, Packer], limit: int, spool: Saves | None) -> None:
        self.packers: Mapping[type, Packer] = packers
        self.left: int = limit
        self.spool: Saves | None = spool
        self.files: list[str] = []

    def pack(self, value: Any, depth: int) -> Json:
        """The value as JSON. Raises Refused or OverBudget."""
        kind = type(value)
        if kind is str:
            self.spend(len(value))
            return value
        if value is None or kind is bool:
            return value
        if depth > MAX_DEPTH and kind is not int and kind is not float:
            raise Refused(
                f"is nested more than {MAX_DEPTH} levels deep, or contains itself:"
                " pass something flatter"
            )
        return self.packers[kind](self, value, depth)

    def pack_all(self, values: Iterable[Any], depth: int) -> list[Json]:
        """Pack the elements of a container one by one."""
        packed: list[Json] = []
        try:
            for value in values:
                self.spend(1)
                packed.append(self.pack(value, depth))
        except Refused as refused:
            refused.path = f"[{len(packed)}]{refused.path}"
            raise
        return packed

    def pack_fields(self, fields: Iterable[tuple[str, Any]], depth: int, style: str) -> Json:
        """Pack named values into an object; `style` shows a name in a message: ".{}"."""
        packed: dict[str, Json] = {}
        for name, value in fields:
            self.spend(len(name))
            try:
                packed[name] = self.pack(value, depth)
            except Refused as refused:
                refused.path = style.format(name) + refused.path
                raise
        return packed

    def is_plain(self, values: Iterable[Any]) -> bool:
        """Whether all the values are plain JSON; the fast path for lists."""
        size = 0
        for value in values:
            kind = type(value)
            if kind is str:
                size += len(value)
            elif kind is int:
                if not -MAX_INT <= value <= MAX_INT:
                    return False
            elif kind is float:
                if not isfinite(value):
                    return False
            elif value is not None and kind is not bool:
                return False
            size += 1
        self.spend(size)
        return True

    def tagged(self, tag: str, *parts: Json) -> Json:
        """The JSON of a value that is not plain JSON. The parts are charged by the caller."""
        self.spend(len(tag) + len('{"$":[""]}'))
        return {TAG: [tag, *parts]}

    def spend(self, size: int) -> None:
        """Charge the budget with something that takes at least `size` bytes."""
        self.left -= size
        if self.left < 0:
            raise OverBudget

    def require(self, size: int) -> None:
        """Raise OverBudget for a part of at least `size` bytes that is charged later."""
        if size > self.left:
            raise OverBudget


class Unpacking:
    """Unpacks one value, or the arguments of one call, from JSON that may be hostile."""

    __slots__ = ("spool", "unpackers")

    def __init__(self, unpackers: Mapping[str, Unpacker], spool: Spool | None) -> None:
        self.unpackers: Mapping[str, Unpacker] = unpackers
        self.spool: Spool | None = spool

    def unpack(self, value: Json, depth: int) -> Any:
        """The value that was packed. Raises PayloadError for invalid data."""
        kind = type(value)
        if kind is not dict and kind is not list:
            return value
        if depth > MAX_DEPTH + 1:  # the deepest container may hold a tagged number
            raise PayloadError(f"it is nested more than {MAX_DEPTH} levels deep")
        if kind is list:
            return self.unpack_all(value, depth + 1)
        if TAG in value:
            return self._tagged(value, depth)
        return self.unpack_fields(value, depth + 1)

    def unpack_all(self, values: list[Json], depth: int) -> list[Any]:
        """Unpack the elements of a container."""
        return [
            self.unpack(value, depth) if type(value) is list or type(value) is dict else value
            for value in values
        ]

    def unpack_fields(self, fields: dict[str, Json], depth: int) -> dict[str, Any]:
        """Unpack the values of an object, whatever its keys."""
        return {
            name: self.unpack(value, depth) if type(value) is list or type(value) is dict else value
            for name, value in fields.items()
        }

    def _tagged(self, value: dict[str, Json], depth: int) -> Any:
        parts = value[TAG]
        if len(value) != 1 or type(parts) is not list or not parts or type(parts[0]) is not str:
            raise PayloadError("it holds a malformed tag")
        unpacker = self.unpackers.get(parts[0])
        if unpacker is None:
            raise PayloadError(f"it holds the unknown tag {parts[0][:40]!r}")
        try:
            return unpacker(self, depth + 1, *parts[1:])
        except (PayloadError, FetchFailed):
            raise
        except Exception as error:  # from a constructor or a __hash__ of any class
            raise PayloadError(f"it holds an unreadable {parts[0]}: {error}") from error


Packer = Callable[[Packing, Any, int], Json]
"""(walk, value, depth) -> JSON. Packs the parts of the value at depth + 1."""
Unpacker = Callable[..., Any]
"""(walk, depth, *parts of the tag) -> value. Unpacks parts at the depth given."""
Finder = Callable[[type], Packer | None]
"""The packer for a class that has not been seen before, if it is of the finder's kind."""
