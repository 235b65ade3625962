"""Figures for docs/reliability.md: one generated part for each scenario, between two markers."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable
from pathlib import Path

import apsw

from .scenario import Report


def write_page(page: Path, reports: Iterable[Report]) -> None:
    """Put what the scenarios found into the page; the rest of it stays as it is."""
    text = page.read_text()
    for report in reports:
        name = report.scenario.name
        begin, end = f"<!-- {name}: written by `make torture-long` -->", f"<!-- {name}: end -->"
        part = f"{begin}\n{_part(report)}\n{end}"
        found = re.search(f"(?s){re.escape(begin)}.*?{re.escape(end)}", text)
        if found:
            text = text[: found.start()] + part + text[found.end() :]
        else:
            text = f"{text.rstrip()}\n\n{part}\n"
    page.write_text(text)


def machine() -> str:
    """What the figures were measured on, in a line."""
    return (
        f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}"
    )


def _part(report: Report) -> str:
    item = report.scenario
    lines = [f"### {item.name} ({item.number})", "", item.about, ""]
    facts = f"{time.strftime('%Y-%m-%d')}, {machine()}, seed {report.seed}"
    if report.left_out is not None:
        return "\n".join([*lines, f"Left out on {facts}: {report.left_out}"])
    lines += ["| figure | found |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in report.figures]
    lines += ["", "| must hold | found | |", "|---|---|---|"]
    lines += [
        f"| {_cell(gate.text)} | {_cell(gate.found)} | {'yes' if gate.holds else '**no**'} |"
        for gate in report.gates
    ]
    lines += [f"- **violation**: {_cell(text)}" for text in report.violations]
    return "\n".join([*lines, "", f"{facts}, {report.seconds:.0f} s"])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
