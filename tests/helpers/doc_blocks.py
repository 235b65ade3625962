"""The code blocks of the README and the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>[\w-]+)\n(?P<code>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    """One block of code. file: the name that the page says to save it under."""

    path: Path
    line: int
    language: str
    code: str
    file: str | None

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """The README and its sisters, and every page of the docs and the examples."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(path for path in found if "_build" not in path.parts)


def blocks(path: Path, language: str = "") -> Iterator[Block]:
    """The blocks of one page; language: only those in it."""
    text = path.read_text()
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if not language or match["language"] == language:
            yield Block(path, line, match["language"], match["code"], match["file"])
