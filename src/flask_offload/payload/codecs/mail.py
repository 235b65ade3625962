"""Flask-Mail's messages, with attachments, headers, date and Message-ID.

Used only if the app has imported Flask-Mail.
"""

from __future__ import annotations

import sys
from typing import Any

from ...errors import PayloadError
from .base import Json, Packer, Packing, Unpacking

_CLASSES = ("Message", "Attachment")


def find_packer(cls: type) -> Packer | None:
    """The packer for flask_mail.Message and flask_mail.Attachment themselves."""
    flask_mail = sys.modules.get("flask_mail")
    name = cls.__name__
    if name not in _CLASSES or getattr(flask_mail, name, None) is not cls:
        return None

    def pack(walk: Packing, value: Any, depth: int) -> Json:
        return walk.tagged("mail", name, walk.pack_fields(vars(value).items(), depth + 1, ".{}"))

    return pack


def _unpack(walk: Unpacking, depth: int, name: str, packed: dict[str, Json]) -> Any:
    flask_mail: Any = sys.modules.get("flask_mail")
    if flask_mail is None:
        raise PayloadError("it holds a flask_mail.Message: import flask_mail in the app")
    if name not in _CLASSES:
        raise PayloadError("it holds an object of flask_mail that is never encoded")
    # not by the constructor, which would make another Message-ID
    value = object.__new__(getattr(flask_mail, name))
    value.__dict__.update(walk.unpack_fields(packed, depth))
    return value


UNPACKERS = {"mail": _unpack}
