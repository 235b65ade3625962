"""Uploaded files: a werkzeug FileStorage is encoded as the name of its copy in the spool.

Without a spool (an engine without the flag `files`, a result) its bytes are part of the payload.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from ...errors import FileTooLarge, PayloadError
from .base import Json, OverBudget, Packer, Packing, Refused, Unpacking


def find_packer(cls: type) -> Packer | None:
    """The packer for werkzeug's FileStorage itself."""
    werkzeug = sys.modules.get("werkzeug.datastructures")
    return _pack if cls is getattr(werkzeug, "FileStorage", None) else None


def _pack(walk: Packing, value: Any, depth: int) -> Json:
    stream = value.stream
    if stream.closed:
        raise Refused("is a file that is closed already: enqueue it before it is closed")
    # the whole file, even if the view has read some of it
    position = stream.tell() if stream.seekable() else None
    if position is not None:
        stream.seek(0)
    try:
        if walk.spool is None:
            source = _bytes(walk, stream.read(max(walk.left, 0) + 1), depth)
        else:
            source = walk.spool.save(stream)
            walk.files.append(source)
    finally:
        if position is not None:
            stream.seek(position)
    headers = [list(pair) for pair in value.headers]
    return walk.tagged(
        "file", source, *walk.pack_all([value.filename, value.name, headers], depth + 1)
    )


def _bytes(walk: Packing, data: bytes, depth: int) -> Json:
    try:
        return walk.pack(data, depth + 1)
    except OverBudget:
        raise FileTooLarge(
            "the file is too large for the payload (OFFLOAD_MAX_PAYLOAD), which holds the files of"
            " results, and of arguments if the engine does not have the flag 'files': store it"
            " where the worker can read it, and pass its name"
        ) from None


def _unpack(
    walk: Unpacking,
    depth: int,
    source: Json,
    filename: str | None,
    name: str | None,
    headers: list[list[str]],
) -> Any:
    from werkzeug.datastructures import FileStorage, Headers

    content = walk.unpack(source, depth)
    if type(content) is bytes:
        stream: Any = io.BytesIO(content)
    elif walk.spool is None:
        raise PayloadError("it holds an uploaded file, and there is no spool to read it from")
    else:
        stream = walk.spool.open(content)
    file = FileStorage(stream, name=name, headers=Headers([(key, item) for key, item in headers]))
    # for a missing one, FileStorage would use the spool's file name
    file.filename = filename
    return file


UNPACKERS = {"file": _unpack}
