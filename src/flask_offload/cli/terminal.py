"""What the commands write for people: tables, bars and guesses. Nothing here prints."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence

from ..textui import fit, plain, width_of

GAP = "  "
ENOUGH = 14
"""Columns at which a shortened text still says something."""


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    width: int | None,
    whole: Collection[str] = (),
    least: Sequence[str] = (),
    paint: Callable[[str], str] = str,
) -> str:
    """Aligned columns under their headers, without a line break at the end.

    A column of numbers is aligned to the right; None is an empty cell; other values are shown by
    `str` and escaped by `plain()`. No line is wider than `width` columns (None: unlimited): the
    widest columns of text are shortened first, those of `whole` never. least: columns that are left
    out, in this order, where the others would become narrower than ENOUGH. paint: what a cell looks
    like; it may add colours to its text, no characters.
    Raises ValueError when a row has another number of cells than there are headers.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    lines = [[plain(header) for header in headers], *cells]
    numeric = [_all_numbers(column) for column in zip(*rows, strict=True)] or [False] * len(headers)
    widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    rigid = [number or header in whole for number, header in zip(numeric, headers, strict=True)]
    shown = list(range(len(headers)))
    if width is not None:
        shown = _shown_columns(headers, widths, rigid, width, least)
        gaps = width_of(GAP) * (len(shown) - 1)
        narrow = _narrowed([widths[at] for at in shown], [rigid[at] for at in shown], width - gaps)
        is_fitting = sum(narrow) + gaps <= width
        widths = [narrow[shown.index(at)] if at in shown else 0 for at in range(len(widths))]
    else:
        is_fitting = True

    def line_of(line: Sequence[str], paint: Callable[[str], str]) -> str:
        texts = [_aligned(line[at], widths[at], numeric[at]) for at in shown]
        texts[-1:] = [text.rstrip() for text in texts[-1:]]
        return GAP.join(map(paint, texts)).rstrip()

    if not is_fitting:
        return "\n".join(fit(line_of(line, str), width or 0) for line in lines)
    head, *body = lines
    return "\n".join([line_of(head, str), *(line_of(line, paint) for line in body)])


def bar(fraction: float, width: int = 10) -> str:
    """How much of something is done, as a bar of so many columns. fraction: 0 to 1."""
    done = min(width, max(0, int(fraction * width)))
    return "█" * done + "░" * (width - done)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean …?` with the one of these that is most alike, if one is; else nothing. Of
    dotted names, such as those of tasks, the last part is enough."""
    names = sorted(known)
    parts = {each.rpartition(".")[2].lower(): each for each in names}
    parts |= {each.lower(): each for each in names}
    found = difflib.get_close_matches(name.lower(), parts, n=1, cutoff=0.6)
    return f" Did you mean {parts[found[0]]!r}?" if found else ""


# --- steps -------------------------------------------------------------------------------------


def _cell(value: object) -> str:
    return "" if value is None else plain(str(value))


def _all_numbers(values: Sequence[object]) -> bool:
    return all(value is None or type(value) in (int, float) for value in values)


def _aligned(text: str, width: int, numeric: bool) -> str:
    text = fit(text, width)
    padding = " " * (width - width_of(text))
    return padding + text if numeric else text + padding


def _shown_columns(
    headers: Sequence[str],
    widths: Sequence[int],
    rigid: Sequence[bool],
    width: int,
    least: Sequence[str],
) -> list[int]:
    """The places of the columns for which there is room."""
    shown = list(range(len(headers)))
    for header in least:
        needed = sum(widths[at] if rigid[at] else min(widths[at], ENOUGH) for at in shown)
        if needed + width_of(GAP) * (len(shown) - 1) <= width:
            break
        shown.remove(headers.index(header))
    return shown


def _narrowed(widths: list[int], numeric: list[bool], available: int) -> list[int]:
    """The widths, the widest columns of text cut to one limit, so that all fit into `available`."""
    texts = sorted(width for width, number in zip(widths, numeric, strict=True) if not number)
    available -= sum(widths) - sum(texts)
    for done, width in enumerate(texts):
        limit = available // (len(texts) - done)  # of those that are at least this wide
        if width > limit:
            limit = max(limit, 1)
            return [
                width if number else min(width, limit)
                for width, number in zip(widths, numeric, strict=True)
            ]
        available -= width
    return widths
