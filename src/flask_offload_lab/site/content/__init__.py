"""The lab's longer texts: TOML files, read and checked once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read(name: str, type_: type[T]) -> T:
    """The content of `name`.toml, checked. Raises msgspec.ValidationError if it does not fit."""
    text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), type_)
