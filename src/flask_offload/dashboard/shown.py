"""Texts of jobs on a page: safe to look at, and no more of them than a page takes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from markupsafe import Markup, escape

from ..jobs.log_line import LogLine

ROOM = 85_000
"""Bytes of HTML for the texts of a page, of the 100,000 that it may take."""
LINE = 260
"""Bytes around a line of a log."""
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, marks that change the direction of text, and what is no text at all."""


def printable(text: str) -> str:
    r"""The text with characters that are not seen, or disguise others, as escapes such as `\x1b`;
    line ends and tabs stay."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def breakable(name: str) -> Markup:
    """A dotted name, which a browser may break after a dot or an underscore."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])", printable(name)))


class Room:
    """What is left of a page, in bytes of HTML. whole: the room of which this is a part."""

    def __init__(self, size: int = ROOM, whole: Room | None = None) -> None:
        self._left = size
        self._whole = whole

    def part(self, most: int) -> Room:
        """A part of it."""
        return Room(min(most, self._left), self)

    def fit(self, text: object) -> str:
        """As much of a text as there is room for."""
        safe = printable(str(text))
        kept = safe
        if _size(safe) > self._left:
            end = bisect_right(range(len(safe)), self._left, key=lambda end: _size(safe[:end]))
            kept = f"{safe[: max(0, end - 1)]} … ({len(safe):,} characters)"
        self._take(_size(kept))
        return kept

    def last(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        """As many of the last lines of a log as there is room for."""
        for at in range(len(lines), 0, -1):
            line = lines[at - 1]
            size = _size(printable(line.message)) + _size(printable(line.logger)) + LINE
            if size > self._left:
                return lines[at:]
            self._take(size)
        return lines

    def _take(self, size: int) -> None:
        self._left = max(0, self._left - size)
        if self._whole is not None:
            self._whole._take(size)


def _size(text: str) -> int:
    return len(escape(text).encode())
