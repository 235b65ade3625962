"""`python -m torture`: run scenarios, print what they found, and in the long form write it down."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import ROOT, scenarios  # noqa: F401  (importing the scenarios makes them known)
from .pages import PAGE, record
from .scenario import SCENARIOS, Report, Scenario, perform


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end what was started
    if options.list:
        for item in SCENARIOS.values():
            print(f"{item.name:30} {item.number:4} {item.about}")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    reports = []
    for name in options.only or _all_of_this_form(options.long):
        reports.append(_perform(SCENARIOS[name], seed, options))
        if options.record:
            record(reports[-1:])  # at once: the next may take an hour
    failed = [report.scenario.name for report in reports if not report.holds]
    left_out = [report.scenario.name for report in reports if report.left_out is not None]
    held = len(reports) - len(failed) - len(left_out)
    print(f"\n{held} of {len(reports)} scenarios hold", end="")
    print(f"; left out: {', '.join(left_out)}" if left_out else "", end="")
    print(f"; these do not: {', '.join(failed)}" if failed else ".")
    if options.record:
        print(f"Figures are in {PAGE.relative_to(ROOT)}.")
    return 1 if failed else 0


def _all_of_this_form(long: bool) -> list[str]:
    return [item.name for item in SCENARIOS.values() if long or not item.only_long]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long form, for figures")
    parser.add_argument(
        "--only", action="append", choices=list(SCENARIOS), metavar="NAME", help="only this one"
    )
    parser.add_argument("--seed", type=int, help="repeat the random choices of another run")
    parser.add_argument(
        "--length", type=float, metavar="SECONDS", help="of those that go on as long as told"
    )
    parser.add_argument(
        "--record", action="store_true", help=f"write what is found into {PAGE.relative_to(ROOT)}"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders, to look into them")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and end")
    return parser.parse_args(arguments)


def _perform(item: Scenario, seed: int, options: argparse.Namespace) -> Report:
    print(f"\n{item.name} ({item.number}), seed {seed}: {item.about}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{item.name}-"))
    try:
        report = perform(item, folder, long=options.long, seed=seed, length=options.length)
    finally:
        if options.keep:
            print(f"  kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print_report(report)
    return report


def print_report(report: Report) -> None:
    """What it found, in lines."""
    if report.left_out is not None:
        print(f"  left out: {report.left_out}")
    for name, value in report.figures:
        print(f"  {name}: {value}")
    for gate in report.gates:
        print(f"  {'ok  ' if gate.holds else 'FAIL'} {gate.text} ({gate.found})")
    for violation in report.violations:
        print(f"  VIOLATION {violation}")
    print(f"  {report.seconds:.1f} s, {time.strftime('%H:%M:%S')}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
