"""The steps of Build, as the page tells them."""

from __future__ import annotations

from dataclasses import dataclass

from ..building import after
from .content import read


@dataclass(frozen=True)
class Step:
    """asks: what the machine checks. code: the heart of the model answer."""

    key: str
    title: str
    task: str
    asks: list[str]
    hints: list[str]
    code: str


@dataclass(frozen=True)
class Steps:
    """All of them."""

    steps: list[Step]


STEPS = read("build", Steps).steps
WHOLE = [after(number) for number in range(1, len(STEPS) + 1)]
"""The app after each step."""
