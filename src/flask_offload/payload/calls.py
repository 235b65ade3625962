"""Arguments and results to JSON and back, checked against the task's signature.

The arguments of a call are `[[positional, …], {"keyword": …}]`, as the caller wrote them; a result
is one value. The encoding of values is described in `codecs.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from typing import Any, BinaryIO

import msgspec

from ..errors import OffloadError, PayloadError, PayloadTooLarge
from .codecs.base import (
    MAX_INT,
    FetchFailed,
    Json,
    OverBudget,
    Packing,
    Refused,
    Unpacking,
)
from .codecs.registry import Codecs
from .signature import Signature, Slot
from .spool import CHUNK, Spool, show_bytes

__all__ = ["CallSpec", "Codecs", "Encoded", "decode_value", "encode_value"]

MAX_BYTES = 64 * 1024 * 1024
"""The largest payload that is read, and the upper limit of OFFLOAD_MAX_PAYLOAD."""

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode
_decode_call = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]]).decode


class Encoded(msgspec.Struct, frozen=True):
    """The arguments of one call.

    files: names of their files in the spool. If the job is not enqueued, the caller has to remove
    them: `spool.remove(encoded.files)`.
    """

    data: bytes
    files: tuple[str, ...] = ()


class CallSpec:
    """The signature of one task, and the encoding of its arguments."""

    def __init__(self, func: Callable[..., Any], task_name: str, codecs: Codecs) -> None:
        self.task_name = task_name
        self._codecs = codecs
        self._signature = Signature(func, task_name)

    def encode(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        limit: int,
        spool: Spool | None = None,
    ) -> Encoded:
        """Check a call and encode its arguments; later changes of them have no effect.

        limit: bytes. spool: stores uploaded files; without one they count against the limit.

        Raises PayloadError for a wrong call, a value of another type than annotated, and a value
        that can't be encoded; PayloadTooLarge; for files also what Spool.save() raises.
        """
        slots = self._signature.slots(args, kwargs)
        values = (*args, *kwargs.values()) if kwargs else args
        for value, slot in zip(values, slots, strict=True):
            if not _is_plain(value, slot):
                break
        else:
            return Encoded(self._to_json(args, kwargs, values, slots, limit))
        batch = None if spool is None else spool.batch()
        walk = Packing(self._codecs.packers, limit, batch)
        try:
            packed = [self._pack(walk, *pair, limit) for pair in zip(values, slots, strict=True)]
            named = dict(zip(kwargs, packed[len(args) :], strict=True))
            data = self._to_json(packed[: len(args)], named, packed, slots, limit)
            if batch is not None:
                batch.finish()
        except BaseException:
            if spool is not None:
                spool.remove(walk.files)
            raise
        return Encoded(data, tuple(walk.files))

    def decode(
        self, data: bytes | str, *, spool: Spool | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the keyword arguments.

        Raises PayloadError for data that can't be decoded, or no longer fits the signature; RowGone
        and FileGone. Rows are fetched here, so errors of their database are raised, too.
        """
        values, named = decode_call(data, self._codecs, self.task_name, spool=spool)
        self._signature.slots(values, named)
        return values, named

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Parameter name -> value, defaults applied. Raises PayloadError for a wrong call."""
        return self._signature.bind(args, kwargs)

    def fingerprint(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The same text for equal calls, however they are written: `f(1, b=2)` and `f(b=2, a=1)`,
        with or without defaults. Raises PayloadError for a wrong call and for values that can't be
        encoded; types are checked by encode()."""
        walk = Packing(self._codecs.packers, MAX_BYTES, _Digests())
        digest = blake2b(digest_size=16)
        for name, value in self.bind(args, kwargs).items():
            try:
                digest.update(_encode_sorted([name, walk.pack(value, 1)]))
            except _PACKING_ERRORS as error:
                raise _explained(error, self._argument(name)) from error.__cause__
        return digest.hexdigest()

    def _pack(self, walk: Packing, value: Any, slot: Slot, limit: int) -> Json:
        if slot.test and type(value) not in slot.scalars and (bad := slot.test(value)):
            raise self._signature.mismatch(slot, bad)
        try:
            return walk.pack(value, 1)
        except _PACKING_ERRORS as error:
            raise _explained(error, self._argument(slot.name), limit) from error.__cause__

    def _to_json(
        self,
        args: Sequence[Json],
        kwargs: dict[str, Json],
        values: Sequence[Json],
        slots: Sequence[Slot],
        limit: int,
    ) -> bytes:
        try:
            data = _encode((args, kwargs))
        except UnicodeEncodeError as error:
            for value, slot in zip(values, slots, strict=True):
                _check_text(value, self._argument(slot.name))
            raise _explained(error, f"task {self.task_name!r}: a keyword") from None
        if len(data) > limit:
            sizes = {slot.name: len(_encode(v)) for v, slot in zip(values, slots, strict=True)}
            largest = max(sizes, key=sizes.__getitem__)
            raise PayloadTooLarge(
                f"task {self.task_name!r}: the arguments take {show_bytes(len(data))},"
                f" {largest!r} most of it ({show_bytes(sizes[largest])}); {_too_large(limit)}"
            )
        return data

    def _argument(self, name: str) -> str:
        return f"task {self.task_name!r}: argument {name!r}"


class _Digests:
    """Replaces the spool in a fingerprint: a file's name is a digest of its content."""

    def save(self, stream: BinaryIO) -> str:
        digest = blake2b(digest_size=16)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


def _is_plain(value: Any, slot: Slot) -> bool:
    """Whether it fits the annotation and is JSON as it is."""
    kind = type(value)
    if kind not in slot.scalars:
        return False
    if kind is int:
        return bool(-MAX_INT <= value <= MAX_INT)
    return kind is not float or isfinite(value)


# --- single values -----------------------------------------------------------------------------


def encode_value(value: Any, codecs: Codecs, *, what: str, limit: int) -> bytes:
    """Encode a value of any type, such as a task's result.

    what: the beginning of error messages ("the return value of task 'x'"). limit: bytes.
    Raises PayloadError and PayloadTooLarge.
    """
    walk = Packing(codecs.packers, limit, None)
    try:
        data = _encode(walk.pack(value, 1))
    except _PACKING_ERRORS as error:
        raise _explained(error, what, limit) from error.__cause__
    if len(data) > limit:
        raise PayloadTooLarge(f"{what} takes {show_bytes(len(data))}; {_too_large(limit)}")
    return data


def decode_call(
    data: bytes | str, codecs: Codecs, task_name: str, *, spool: Spool | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments of CallSpec.encode(), whatever the signature is.
    Raises as CallSpec.decode()."""
    what = f"task {task_name!r}: the stored arguments can't be read"
    args, kwargs = _read(_decode_call, data, what)
    walk = Unpacking(codecs.unpackers, spool)
    try:
        return tuple(walk.unpack_all(args, 1)), walk.unpack_fields(kwargs, 1)
    except FetchFailed as failed:
        raise failed.error from failed.error.__cause__
    except (PayloadError, RecursionError) as error:
        raise _explained(error, what) from error.__cause__


def encode_json_call(args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments of a call that came as JSON from a program that does not use this library. They
    are plain data: what looks like a tagged value stays a dict. Raises PayloadError."""
    what = "the arguments of a message"
    return encode_value([[*args], {**kwargs}], Codecs(), what=what, limit=1 << 30).decode()


def decode_value(data: bytes | str, codecs: Codecs, *, what: str = "the stored value") -> Any:
    """Decode a value of encode_value(). Raises PayloadError, RowGone, and errors of a database."""
    what = f"{what} can't be read"
    packed = _read(_decode, data, what)
    try:
        return Unpacking(codecs.unpackers, None).unpack(packed, 1)
    except FetchFailed as failed:
        raise failed.error from failed.error.__cause__
    except (PayloadError, RecursionError) as error:
        raise _explained(error, what) from error.__cause__


# --- errors ------------------------------------------------------------------------------------

_PATH = 200
"""Characters of the path to a value in a message; the path into a cycle is endless."""
_PACKING_ERRORS = (Refused, OverBudget, OffloadError, UnicodeEncodeError, RecursionError)


def _explained(error: Exception, what: str, limit: int = MAX_BYTES) -> OffloadError:
    """An error of packing or unpacking as the user sees it: which value, and what to do."""
    if isinstance(error, Refused):
        path = error.path if len(error.path) <= _PATH else f"{error.path[:_PATH]}…"
        return PayloadError(f"{what}{path} {error.reason}")
    if isinstance(error, OverBudget):
        return PayloadTooLarge(f"{what} goes beyond the limit: {_too_large(limit)}")
    if isinstance(error, UnicodeEncodeError):
        code = ord(error.object[error.start])
        return PayloadError(
            f"{what} holds text with the lone surrogate U+{code:04X}, which is half a character:"
            " pass bytes, or decode them with errors='replace'"
        )
    if isinstance(error, OffloadError):
        return type(error)(f"{what}: {error}")
    return PayloadError(f"{what}: it is nested too deep for the call stack: pass something flatter")


def _check_text(value: Json, what: str) -> None:
    try:
        _encode(value)
    except UnicodeEncodeError as error:
        raise _explained(error, what) from None


def _too_large(limit: int) -> str:
    return (
        f"more than {show_bytes(limit)} are not accepted: pass an id or a file instead, or raise"
        " OFFLOAD_MAX_PAYLOAD"
    )


def _read(decode: Callable[[bytes | str], Any], data: bytes | str, what: str) -> Any:
    if len(data) > MAX_BYTES:
        raise PayloadTooLarge(f"{what}: there are more than {show_bytes(MAX_BYTES)} of it")
    try:
        return decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: {error}") from error
