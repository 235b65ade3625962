"""Fences taken out of the SQL, one by one: each must be missed by some test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .. import ROOT
from ..scenario import Run, scenario
from ..world import PYTHON

FILES = ("completion.py", "worker_store.py", "recovery.py", "engine.py", "limits.py")
TESTS = ("store/test_store_attempts.py", "store/test_store_jobs.py", "store/test_store_workers.py")
MORE_TESTS = (
    "store/test_store_limits.py",
    "store/test_store_plans.py",
    "store/test_store_model.py",
    "worker/test_worker_hard_conditions.py",
)

FENCE = "seq = ? AND attempt = ? AND worker = ? AND state = 'running'"
REMOVALS: dict[str, tuple[str, ...]] = {
    # what is found in a statement, and by what it is replaced: bindings keep their number
    r"\{FENCE\}": (
        FENCE.replace("attempt = ?", "? IS NOT NULL"),
        FENCE.replace("worker = ?", "? IS NOT NULL"),
        FENCE.replace(" AND state = 'running'", ""),
    ),
    r" AND state = '\w+'": ("",),
    r"(?<=WHERE )state = '\w+' AND ": ("",),
    r" AND state IN \([^)]+\)": ("",),
    r" AND \{NOT_PAUSED\}": ("",),
    r" AND cancel [=>] 0": ("",),
    r" AND worker = \?": (" AND ? IS NOT NULL",),
}


@dataclass(frozen=True)
class Mutant:
    """A file with one condition less. name: where, and what is gone."""

    name: str
    file: str
    source: str


def mutants() -> list[Mutant]:
    """Every condition of every statement, taken out alone."""
    found = []
    for file in FILES:
        source = (_package(ROOT / "src") / file).read_text()
        for pattern, replacements in REMOVALS.items():
            for match in re.finditer(pattern, source):
                line = source.count("\n", 0, match.start()) + 1
                text = source.splitlines()[line - 1]
                if text.startswith("FENCE ="):
                    continue  # its parts are taken out where it is used
                if "SELECT DISTINCT" in text:
                    continue  # these choose whom to look at, so that fewer are; they fence nothing
                for replacement in replacements:
                    gone = _difference(match[0], replacement)
                    mutated = source[: match.start()] + replacement + source[match.end() :]
                    found.append(Mutant(f"{file}:{line}, without {gone}", file, mutated))
    return found


def _difference(old: str, new: str) -> str:
    if old != "{FENCE}":
        return old.strip()
    return next(part for part in FENCE.split(" AND ") if part not in new)


def _package(src: Path) -> Path:
    return src / "flask_offload" / "engines" / "sqlite"


@scenario(
    "T22",
    "each condition that fences a write is taken out of the SQL: some test must fail",
    only_long=True,
)
def fences(run: Run) -> None:
    every = mutants()
    untouched = (_package(ROOT / "src") / FILES[0]).read_text()
    control = _survives(run, Mutant("nothing taken out", FILES[0], untouched))
    run.gate("with nothing taken out, all tests pass", control, control)
    survivors = [mutant.name for mutant in every if _survives(run, mutant)]
    killed = len(every) - len(survivors)
    run.figure("conditions taken out", f"{len(every)}, {killed} noticed")
    for name in survivors:
        run.figure("not noticed", name)
    run.gate("each is noticed", f"{killed} of {len(every)}", killed == len(every))


def _survives(run: Run, mutant: Mutant) -> bool:
    """Whether all tests pass over the package with this mutant in it."""
    folder = run.new_folder()
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (_package(folder / "src") / mutant.file).write_text(mutant.source)
    env = {**os.environ, "PYTHONPATH": str(folder / "src"), "CI": ""}
    for tests in (TESTS, MORE_TESTS):
        argv = [PYTHON, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        argv += [str(ROOT / "tests" / name) for name in tests]
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, check=False)
        if done.returncode:
            return False
    return True
