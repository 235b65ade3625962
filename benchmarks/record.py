"""Keep what was measured: the newest tables in docs/benchmarks.md, a line in history.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import Figure
from .report import markdown, number

HISTORY = Path(__file__).parent / "history.md"
DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def record(about: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Write both."""
    versions = [f"{name} {found}" for name, found in about["versions"].items()]
    services = [found for found in about["services"].values() if found]
    head = (
        f"Measured on {about['date']} at commit {about['commit']}, {about['machine']},"
        f" Python {about['python']}, load {about['load']:.1f} at the start.\n\n"
        f"Versions: {', '.join(versions)}; {'; '.join(services)}.\n\n"
    )
    missing = [f"{name} ({why})" for name, why in about["left out"].items()]
    head += f"Left out: {', '.join(missing)}.\n\n" if missing else ""
    page = DOCS.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}\n{head}{markdown(figures)}\n{END}{after}")
    with HISTORY.open("a") as history:
        history.write(f"\n## {about['date']}, {about['commit']} (load {about['load']:.1f})\n\n")
        history.write("| target | limit | found | |\n|---|---|---|---|\n")
        for figure in figures:
            for verdict in figure.verdicts:
                sign = "≥" if verdict.at_least else "≤"
                held = "held" if verdict.held else "**missed**"
                target = f"{figure.title.partition(',')[0]}: {verdict.target}"
                limit = f"{sign} {number(verdict.limit)} {verdict.unit}".strip()
                history.write(f"| {target} | {limit} | {number(verdict.value)} | {held} |\n")
