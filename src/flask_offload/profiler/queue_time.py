"""How long a request waited before this server began with it, if a proxy reports it."""

from __future__ import annotations

import re

_HEADERS = ("HTTP_X_REQUEST_START", "HTTP_X_QUEUE_START")
_NUMBER = re.compile(r"^\s*(?:t=)?\s*(\d{9,17}(?:\.\d+)?)\s*$")
_LONGEST = 600.0
"""Seconds. Above it the clocks differ, or the header is forged."""


def arrival_header(environ: dict[str, object]) -> str | None:
    """The raw header in which a proxy notes when the request came; None without one."""
    value = environ.get(_HEADERS[0]) or environ.get(_HEADERS[1])
    return value if isinstance(value, str) else None


def queue_seconds(header: str | None, now: float) -> float | None:
    """Seconds between the time in the header and `now` (unix seconds); None when it is not known.

    Proxies write seconds (nginx: `t=${msec}`), milliseconds (Heroku) or microseconds (New Relic's
    `t=<microseconds>`), so the unit is taken from the size of the number. A clock that is slightly
    ahead gives 0.
    """
    found = _NUMBER.match(header or "")
    if not found:
        return None
    arrived = float(found[1])
    for unit in (1.0, 1e3, 1e6):
        if arrived / unit < 1e10:  # in seconds: before the year 2286
            arrived /= unit
            break
    waited = now - arrived
    return max(waited, 0.0) if -1.0 < waited < _LONGEST else None
