"""The text of a `Server-Timing` header (https://www.w3.org/TR/server-timing/)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

MAX_ENTRIES = 10
MAX_LENGTH = 1000
"""Characters. Proxies refuse large headers (nginx: 4 to 8 kB for all of them together)."""

_NOT_IN_A_TOKEN = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_NOT_PRINTABLE = re.compile(r"[^ -~]")


class Metric(NamedTuple):
    """One entry: a name, a duration in seconds (None: none), a description ("": none)."""

    name: str
    seconds: float | None = None
    description: str = ""


def server_timing(fixed: Iterable[Metric], parts: Iterable[Metric]) -> str:
    """The header's value: the `fixed` entries, then the longest `parts` that there is room for.

    What there is no room for is summed up as `other`, so that the figures still add up.
    """
    entries = [_entry(metric) for metric in fixed]
    ranked = sorted(parts, key=lambda part: -(part.seconds or 0.0))
    length = sum(len(entry) + 2 for entry in entries)
    for index, part in enumerate(ranked):
        text, rest = _entry(part), ranked[index + 1 :]
        is_last = not rest
        room = MAX_LENGTH - length - (0 if is_last else len(_entry(_other(ranked[index:]))) + 2)
        if len(text) > room or (len(entries) >= MAX_ENTRIES - 1 and not is_last):
            entries.append(_entry(_other(ranked[index:])))
            break
        entries.append(text)
        length += len(text) + 2
    return ", ".join(entries)


def _other(parts: list[Metric]) -> Metric:
    return Metric("other", sum(part.seconds or 0.0 for part in parts), f"{len(parts)} more")


def _entry(metric: Metric) -> str:
    text = _NOT_IN_A_TOKEN.sub("-", metric.name)[:64] or "-"
    if metric.seconds is not None:
        text += f";dur={max(metric.seconds, 0.0) * 1000:.1f}"
    if metric.description:
        # ASCII only: Chromium reads other bytes as latin-1
        plain = _NOT_PRINTABLE.sub("?", metric.description)[:120]
        plain = plain.replace("\\", "\\\\").replace('"', '\\"')
        text += f';desc="{plain}"'
    return text
