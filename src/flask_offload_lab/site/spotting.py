"""The five routes of Spot, as the page shows them: their code, line by line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from markupsafe import Markup

from ..sample_app import spots as routes
from .content import read
from .highlight import lines, source


@dataclass(frozen=True)
class SpotText:
    """One route. setting: what goes on there; remedy, verdict: what to do about it."""

    name: str
    title: str
    functions: list[str]
    setting: str
    remedy: str
    verdict: str

    @property
    def code(self) -> list[tuple[int, Markup, bool]]:
        """Line number in the file, the line, and whether it can be chosen."""
        shown: list[tuple[int, Markup, bool]] = []
        for name in self.functions:
            function = getattr(routes, name)
            text = source(function)
            _, first = inspect.getsourcelines(function)
            if shown:
                shown.append((first - 1, Markup(), False))
            for number, (line, plain) in enumerate(
                zip(lines(text), text.split("\n"), strict=True), first
            ):
                can_block = not plain.lstrip().startswith(("@", "def ")) and bool(plain.strip())
                shown.append((number, line, can_block))
        return shown


@dataclass(frozen=True)
class Spots:
    """All five."""

    spots: list[SpotText]


SPOTS = read("spot", Spots).spots
