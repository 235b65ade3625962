"""Rate limits such as "100/m".

The limit is a strict sliding window: no interval of `window_seconds`, wherever it begins, has more
than `count` starts. A window that is reset by the clock would allow up to twice as many around each
reset. A store keeps the times of the starts; one that is in the future, because the clock was set
back, counts as a start at the current time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..errors import OptionError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE: Final = re.compile(r"(\d+)\s*/\s*(\d*)\s*([smhd])", re.ASCII)
_LONGEST: Final = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts within any `window_seconds`.

    Raises OptionError unless both are whole numbers above zero and the window is a year or less.
    """

    count: int
    window_seconds: int

    def __post_init__(self) -> None:
        for name in ("count", "window_seconds"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise OptionError(f"Rate({name}={value!r}): give a whole number.")
        if self.count < 1:
            raise OptionError(
                f"a rate of {self.count} starts would never start a job: allow at least 1, "
                "or pause the queue."
            )
        if self.window_seconds < 1:
            raise OptionError(
                f"a rate over {self.window_seconds} seconds limits nothing: the window must be at "
                "least 1 second, as in '10/s'."
            )
        if self.window_seconds > _LONGEST:
            raise OptionError("the window of a rate can't be longer than 366 days: '…/366d'.")

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read "100/m", "10/s", "1000/h", "2/d" or "5/30s": count, slash, window.

        The window is a unit (s, m, h, d) with or without a number before it.
        Raises OptionError when the text is something else.
        """
        match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise OptionError(
                f"rate={text!r}: write starts per time, such as '100/m', '10/s' or '5/30s'; the "
                "units are s, m, h and d."
            )
        count, units, unit = match.groups()
        if len(count) > 9 or len(units) > 9:
            raise OptionError(f"rate={text[:40]!r}: the number is too large to be a limit.")
        return cls(int(count), int(units or 1) * _UNITS[unit])

    def __str__(self) -> str:
        unit, seconds = next(
            (unit, seconds)
            for unit, seconds in reversed(_UNITS.items())
            if self.window_seconds % seconds == 0
        )
        units = self.window_seconds // seconds
        return f"{self.count}/{units if units > 1 else ''}{unit}"
