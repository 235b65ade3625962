"""What Measure says about the patterns and the tips."""

from __future__ import annotations

from dataclasses import dataclass

from .content import read


@dataclass(frozen=True)
class Pattern:
    """One way to do a long task. gain: a sentence; ink: the class that colours it."""

    key: str
    path: str
    title: str
    text: str
    gain: str
    ink: str


@dataclass(frozen=True)
class Row:
    """A row of the comparison."""

    key: str
    path: str
    title: str


@dataclass(frozen=True)
class Tip:
    """One of the three. why: how the lab checks it."""

    text: str
    why: str


@dataclass(frozen=True)
class Texts:
    """All of them."""

    patterns: list[Pattern]
    rows: list[Row]
    tips: list[Tip]


MEASURE = read("measure", Texts)
