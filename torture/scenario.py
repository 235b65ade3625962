"""A scenario: harm done to a running system, figures measured, gates that must hold."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import ROOT
from .auditor import Audit
from .world import World


@dataclass
class Gate:
    """Something that must hold. found: the figure it was judged by."""

    text: str
    found: str
    holds: bool


@dataclass
class Report:
    """What a run of a scenario has found."""

    scenario: Scenario
    seed: int
    long: bool
    seconds: float = 0.0
    figures: list[tuple[str, str]] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    left_out: str | None = None
    violations: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.violations and all(gate.holds for gate in self.gates)


class LeftOut(Exception):
    """This machine can't do it; the message says why."""


@dataclass
class Run:
    """One run of a scenario: where it may write, how long it may be, what it has found.

    long: the long form, for figures; the short one is for CI. length: seconds for scenarios that
    go on for as long as it says; None: their own choice.
    """

    folder: Path
    report: Report
    length: float | None = None

    def __post_init__(self) -> None:
        self.chance = random.Random(self.report.seed)
        self._folders = 0

    @property
    def long(self) -> bool:
        """Whether this is the long form."""
        return self.report.long

    def size(self, short: int, long: int) -> int:
        """How many of something, by the form."""
        return long if self.long else short

    def new_folder(self) -> Path:
        """An empty folder."""
        self._folders += 1
        folder = self.folder / f"{self._folders}"
        folder.mkdir()
        return folder

    def shim(self, name: str) -> str:
        """The path of the library of this C file of the torture, to be preloaded."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise LeftOut(f"there is no C compiler to build {name}.c with")
        library = str(self.new_folder() / f"{name}.so")
        source = str(ROOT / "torture" / f"{name}.c")
        words = [compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"]
        subprocess.run(words, check=True)
        return library

    def world(self, **env: Any) -> World:
        """A world on the scenario's store."""
        return World(self.new_folder(), store=self.report.scenario.store, **env)

    @property
    def on_postgres(self) -> bool:
        """Whether the jobs are in PostgreSQL."""
        return self.report.scenario.store == "postgres"

    def figure(self, name: str, value: object) -> None:
        """A figure that was measured."""
        self.report.figures.append((name, str(value)))

    def gate(self, text: str, found: object, holds: bool) -> None:
        """Something that must hold, what was found, and whether it does."""
        self.report.gates.append(Gate(text, str(found), bool(holds)))

    def times(self, name: str, seconds: list[float]) -> list[float]:
        """Durations as p50, p99 and max; given back in order."""
        found = sorted(seconds)
        if found:
            text = ", ".join(
                f"{label} {show(value)}"
                for label, value in (
                    ("p50", quantile(found, 0.5)),
                    ("p99", quantile(found, 0.99)),
                    ("max", found[-1]),
                )
            )
            self.figure(f"{name} (n = {len(found)})", text)
        return found

    def judge(
        self, audit: Audit, *, may_wait: bool = False, may_fail: Callable[[str], bool] | None = None
    ) -> None:
        """The gates that every scenario has, from what the auditor found.

        may_wait: jobs may be left waiting. may_fail: by the reason, whether a job may have failed;
        None: only those that were running at three crashes, or at one and must not run twice.
        """
        allowed = may_fail or _given_up
        unexpected = {why: n for why, n in audit.reasons.items() if not allowed(why)}
        self.figure(
            "jobs",
            f"{audit.accepted:,} accepted: {audit.done:,} done ({audit.again:,} of them ran again"
            f" after their process was killed), {audit.failed:,} failed as they should,"
            f" {audit.cancelled:,} cancelled, {audit.waiting:,} waiting",
        )
        self.gate("no job lost", audit.lost, audit.lost == 0)
        self.gate("no job stuck", audit.stuck, audit.stuck == 0)
        self.gate("no stale result or report written", audit.stale, audit.stale == 0)
        self.gate("the database is intact", audit.integrity, audit.integrity == "ok")
        if not may_wait:
            self.gate("no job left waiting", audit.waiting, audit.waiting == 0)
        if unexpected:
            self.gate("no job failed without need", unexpected, False)
        self.report.violations += audit.violations


def _given_up(reason: str) -> bool:
    return reason.startswith("WorkerDied") and "not tried again" in reason


@dataclass(frozen=True)
class Scenario:
    """name: for `--only`. number: in the plan of tests. about: what is done, in a sentence."""

    name: str
    number: str
    about: str
    run: Callable[[Run], None]
    in_ci: bool
    """Whether the test suite runs its short form."""
    store: str
    """Where its jobs are: "sqlite" or "postgres"."""
    only_long: bool
    """Whether it says nothing in a short run: it takes its time, or is part of the tests anyway."""


SCENARIOS: dict[str, Scenario] = {}
BOTH = ("sqlite", "postgres")


def scenario(
    number: str,
    about: str,
    *,
    in_ci: bool = False,
    only_long: bool = False,
    stores: Sequence[str] = ("sqlite",),
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Make a function a scenario of its own name, and one more on PostgreSQL if `stores` has it.

    in_ci: on the first of its stores.
    """

    def decorate(function: Callable[[Run], None]) -> Callable[[Run], None]:
        for store in stores:
            name = function.__name__.replace("_", "-")
            where = about
            if store == "postgres":
                name, where = f"{name}-on-postgres", f"on PostgreSQL: {about}"
            is_tested = in_ci and store == stores[0]
            SCENARIOS[name] = Scenario(name, number, where, function, is_tested, store, only_long)
        return function

    return decorate


def perform(
    chosen: Scenario, folder: Path, *, long: bool, seed: int, length: float | None = None
) -> Report:
    """Run a scenario in an empty folder."""
    report = Report(chosen, seed, long)
    began = time.monotonic()
    try:
        chosen.run(Run(folder, report, length))
    except LeftOut as reason:
        report.left_out = str(reason)
    except Exception:
        report.violations.append(traceback.format_exc(limit=-4))
    report.seconds = time.monotonic() - began
    return report


def quantile(ordered: list[float], share: float) -> float:
    """The value below which this share of the ordered values lies (the nearest one above)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(seconds: float) -> str:
    """A duration with three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.2g} µs"
