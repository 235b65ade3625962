"""Keep what was measured: the newest table of each figure in docs/evidence/benchmark-tables.md, and
a section in history.md. A run of some figures replaces only theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .figures import Figure
from .report import markdown, verdicts

HISTORY = Path(__file__).parent / "history.md"
DOCS = Path(__file__).parent.parent / "docs" / "evidence" / "benchmark-tables.md"


def record(about: Mapping[str, Any], figures: Mapping[str, Figure]) -> None:
    """Write both."""
    when = f"{about['date']}, commit {about['commit']}"
    page = DOCS.read_text()
    page = replaced(page, "versions", _versions(about))
    for name, figure in figures.items():
        measured = f"Measured on {when}, load {about['loads'][name]:.1f}."
        page = replaced(page, name, markdown(figure, measured))
    DOCS.write_text(page)
    with HISTORY.open("a") as history:
        history.write(f"\n## {when}\n\n")
        for name, figure in figures.items():
            if figure.verdicts:
                history.write(f"{figure.title}, load {about['loads'][name]:.1f}\n\n")
                history.write("\n".join(verdicts(figure)) + "\n\n")


def replaced(page: str, name: str, text: str) -> str:
    """The page with this text between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"docs/evidence/benchmark-tables.md has no marks for {name}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _versions(about: Mapping[str, Any]) -> str:
    versions = [f"{name} {found}" for name, found in about["versions"].items()]
    services = [found for found in about["services"].values() if found]
    missing = [f"{name} ({why})" for name, why in about["left out"].items()]
    text = f"{about['machine']}, Python {about['python']}. {', '.join(versions)}."
    text += f" {'; '.join(services)}." if services else ""
    return f"{text} Left out: {', '.join(missing)}.\n" if missing else f"{text}\n"
