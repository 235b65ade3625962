"""docs/evidence/reliability-runs.md: what the newest runs found, from results.json."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import apsw

from . import ROOT
from .plan import PLAN, Item
from .scenario import SCENARIOS, Report

PAGE = ROOT / "docs" / "evidence" / "reliability-runs.md"
RESULTS = ROOT / "torture" / "results.json"
"""The newest report of each scenario, by its name."""

BEGIN = "<!-- figures: written by `make torture-long` -->"
END = "<!-- figures: end -->"


def record(reports: Iterable[Report]) -> None:
    """Keep what the scenarios found, and write the page anew."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    where = {"date": time.strftime("%Y-%m-%d"), "commit": commit(), "machine": machine()}
    for report in reports:
        known[report.scenario.name] = {**where, **_told(report)}
    kept = {name: known[name] for name in SCENARIOS if name in known}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    write_page()


def write_page() -> None:
    """Put what is known between the markers; the rest of the page stays as it is."""
    known = json.loads(RESULTS.read_text())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    parts = [_table(known), *(_part(name, known[name]) for name in known)]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{after}")


def machine() -> str:
    """What the figures were measured on, in a line."""
    return (
        f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()},"
        f" Flask {version('flask')}"
    )


def commit() -> str:
    """The commit that is checked out; `+` if something was changed since."""
    written = (f":!{path.relative_to(ROOT)}" for path in (PAGE, RESULTS))
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def _git(*words: str) -> str:
    argv = ["git", *words]
    told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip()


def _told(report: Report) -> dict[str, Any]:
    return {
        "form": "long" if report.long else "short",
        "seed": report.seed,
        "seconds": round(report.seconds),
        "load": round(os.getloadavg()[1]),
        "left_out": report.left_out,
        "figures": report.figures,
        "gates": [[gate.text, gate.found, gate.holds] for gate in report.gates],
        "violations": report.violations,
    }


# --- the table of the plan ---------------------------------------------------------------------


def _table(known: dict[str, Any]) -> str:
    lines = [
        "## The plan",
        "",
        "| | what | must hold | where it is built | newest run |",
        "|---|---|---|---|---|",
    ]
    for number, item in PLAN.items():
        names = [found.name for found in SCENARIOS.values() if found.number == number]
        cells = [
            number,
            item.what,
            item.gate,
            _places(names, item),
            "<br>".join(_headline(name, known[name]) for name in names if name in known),
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _places(names: Iterable[str], item: Item) -> str:
    tests = (f"[{name}](../../tests/{name})" for name in item.tests)
    return ", ".join([*(f"`{name}`" for name in names), *tests])


def _headline(name: str, found: dict[str, Any]) -> str:
    if found["left_out"]:
        return f"`{name}`: left out, {found['left_out']}"
    gates = [holds for _, _, holds in found["gates"]]
    judged = f"{sum(gates)} of {len(gates)} hold"
    if found["violations"]:
        judged += f", {len(found['violations'])} violations"
    first = next((f"{what}: {value}" for what, value in found["figures"]), "")
    return f"`{name}`: {first}; {judged}"


# --- a scenario --------------------------------------------------------------------------------


def _part(name: str, found: dict[str, Any]) -> str:
    item = SCENARIOS[name]
    lines = [f"## {name} ({item.number})", "", f"{item.about[0].upper()}{item.about[1:]}.", ""]
    facts = (
        f"{found['date']}, commit {found['commit']}, {found['machine']}, seed {found['seed']},"
        f" {found['form']} form, {found['seconds']:,} s, load average {found.get('load', '?')}"
    )
    if found["left_out"] is not None:
        return "\n".join([*lines, f"Left out on {facts}: {found['left_out']}"])
    if found["figures"]:
        lines += ["| figure | found |", "|---|---|"]
        lines += [f"| {_cell(what)} | {_cell(value)} |" for what, value in found["figures"]]
        lines.append("")
    lines += ["| must hold | found | |", "|---|---|---|"]
    lines += [
        f"| {_cell(text)} | {_cell(value)} | {'yes' if holds else '**no**'} |"
        for text, value, holds in found["gates"]
    ]
    lines += ["", *(f"- **violation**: {_cell(text)}" for text in found["violations"]), facts]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
