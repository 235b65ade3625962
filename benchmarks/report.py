"""Figures as text, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from .figures import Figure, Verdict


def number(value: float | None) -> str:
    """Three figures that count, and no more than people read."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def sentence(verdict: Verdict) -> str:
    """One line: held or missed, the target, what was found."""
    word = "held  " if verdict.held else "MISSED"
    sign = ">=" if verdict.at_least else "<="
    found = f"{number(verdict.value)} {verdict.unit}".strip()
    return f"{word} {verdict.target}: {found} (target {sign} {number(verdict.limit)})"


def text(figure: Figure) -> str:
    """For a terminal."""
    table = [["", *figure.columns]]
    table += [[name, *map(number, values)] for name, values in figure.rows.items()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [figure.title]
    for name, *cells in table:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    lines += [f"  {sentence(verdict)}" for verdict in figure.verdicts]
    lines += [f"  note: {note}" for note in figure.notes]
    return "\n".join(lines)


def markdown(figure: Figure, measured: str) -> str:
    """For docs/evidence/benchmark-tables.md. measured: when, in a sentence."""
    lines = [f"## {figure.title[:1].upper()}{figure.title[1:]}", "", measured, ""]
    lines += [f"| | {' | '.join(figure.columns)} |", "|---" * (len(figure.columns) + 1) + "|"]
    for name, values in figure.rows.items():
        shown = f"**{name}**" if name.startswith("offload-") else name
        lines.append(f"| {shown} | {' | '.join(map(number, values))} |")
    if figure.verdicts:
        lines += ["", *verdicts(figure)]
    for note in figure.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def verdicts(figure: Figure) -> list[str]:
    """The lines of a table in Markdown."""
    lines = ["| target | limit | found | |", "|---|---|---|---|"]
    for verdict in figure.verdicts:
        sign = "≥" if verdict.at_least else "≤"
        limit = f"{sign} {number(verdict.limit)} {verdict.unit}".strip()
        held = "held" if verdict.held else "**missed**"
        lines.append(f"| {verdict.target} | {limit} | {number(verdict.value)} | {held} |")
    return lines


def plain(figure: Figure) -> dict[str, Any]:
    """For JSON."""
    found = dataclasses.asdict(figure)
    found["verdicts"] = [
        {**dataclasses.asdict(verdict), "held": verdict.held} for verdict in figure.verdicts
    ]
    return found
