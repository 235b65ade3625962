"""Plain text for terminals: durations, ages, numbers of things. Nothing here prints."""

from __future__ import annotations

from itertools import accumulate, pairwise
from unicodedata import category, east_asian_width

ELLIPSIS = "…"
# Control, format (bidirectional marks too) and surrogate characters, line and paragraph separators:
# they could move the cursor, change colours or disguise a name.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def plain(text: str) -> str:
    r"""The text on one line, safe to print: `\n`, `\x1b` and the like are written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if category(char) in _UNSAFE else char for char in text)


def width_of(text: str) -> int:
    """How many terminal columns `text` takes: wide characters two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def fit(text: str, width: int) -> str:
    """`text` cut to at most `width` columns, with … at its end if something is missing."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    ends = accumulate(map(_columns, text))
    kept = next(index for index, end in enumerate(ends) if end > width - width_of(ELLIPSIS))
    return text[:kept] + ELLIPSIS


def show_number(count: int, noun: str) -> str:
    """A number of things: `1 task`, `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def show_jobs(count: int) -> str:
    """A number of jobs: `1 job`, `2 jobs`."""
    return show_number(count, "job")


def duration(seconds: float) -> str:
    """A length of time in its largest unit, or in two: "35 ms", "1.2 s", "3 min 5 s", "2 d"."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:  # what would be rounded to 1000 ms is the next line's
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (size, unit), (smaller, name) in pairwise(_UNITS):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"


def ago(seconds: float) -> str:
    """An age in full units: "just now", "35 s ago", "4 min ago"; a negative one: "in 4 min"."""
    age = int(abs(seconds))
    for size, unit in _UNITS:
        if age >= size:
            text = f"{age // size} {unit}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "just now"


# --- steps -------------------------------------------------------------------------------------


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _columns(char: str) -> int:
    if category(char) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(char) in ("W", "F") else 1
