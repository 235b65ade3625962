"""The lab's longer texts: TOML files, read and checked once."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from ...challenges import Challenge

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A step of Build. asks: what is checked. code: the main part of the model answer."""

    key: str
    title: str
    task: str
    asks: list[str]
    hints: list[str]
    code: str


def read(name: str, key: str, type_: type[T]) -> T:
    """One key of `name`.toml, checked. Raises msgspec.ValidationError if it does not fit."""
    text = (Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)[key], type_)


CHALLENGES = {each.key: each for each in read("fix", "challenges", list[Challenge])}
"""The challenges of Fix, by key."""

STEPS = read("build", "steps", list[Step])
"""The steps of Build."""

PATTERNS, ROWS, TIPS = (
    read("measure", key, list[dict[str, str]]) for key in ("patterns", "rows", "tips")
)
"""Texts of Measure about the patterns, the rows of its table and the tips."""
