"""The five routes of Spot: their texts, and their code line by line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from markupsafe import Markup

from ..sample_app import spots as routes
from .code import highlight, source
from .content import read


@dataclass(frozen=True)
class SpotText:
    """One route. setting: its situation; remedy, verdict: what to do about it."""

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
            lines = zip(highlight(text).split("\n"), text.split("\n"), strict=True)
            for number, (html, plain) in enumerate(lines, first):
                can_block = not plain.lstrip().startswith(("@", "def ")) and bool(plain.strip())
                shown.append((number, Markup(html), can_block))
        return shown


SPOTS = read("spot", "spots", list[SpotText])
