"""How often is the profiler right? Requests with known answers, beside py-spy and pyinstrument.

    python -m benchmarks.spot_accuracy [--seed 6] [--count 20] [--fresh 12]

A request is clear when its two largest parts differ by more than 10 points, and right when the
first function named is the one that really took longest. The error of a share is its difference,
in points, from what the function measured itself, over all functions that really had 10 % or more;
one that was not named had 0. py-spy samples the same requests, from another process, 200 times a
second; pyinstrument runs in another request to the same route, because it slows it down. Prints
the tables of docs/profiler-evidence.md. Ends with 1 when the promise is broken: in each group 95 %
of the clear ones right (or all but one).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

NAMED_FROM, CLEAR = 0.1, 0.1
Line = dict[str, Any]


def run(*options: str) -> list[Line]:
    """Run the child under py-spy; its lines, with py-spy's shares."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks.txt"
        spy = ["py-spy", "record", "--idle", "--nonblocking", "-r", "200", "-F", "-f", "raw"]
        child = [sys.executable, "-m", "benchmarks.spot_mixes", *options]
        done = subprocess.run(
            [str(Path(sys.executable).parent / spy[0]), *spy[1:], "-o", str(raw), "--", *child],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=900,
        )
        lines = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
        if not lines:
            raise SystemExit(f"{' '.join(child)} printed nothing")
        stacks = [line.rpartition(" ") for line in raw.read_text().splitlines()]
    seen = [([_name(part) for part in stack.split(";")], int(count)) for stack, _, count in stacks]
    for line in lines:
        within = [(names, count) for names, count in seen if line["name"] in names]
        total = sum(count for _, count in within)
        wanted = line["true"] or {line["first"]: 1.0}
        line["py-spy"] = {
            name: sum(count for names, count in within if _name(name) in names) / total
            for name in wanted
            if total and not line.get("is_async")
        }
    return lines


def _name(frame: str) -> str:
    """The plain name of a function, of `app.<locals>.view (app.py)`."""
    return frame.partition(" (")[0].rpartition(".")[2]


def is_clear(line: Line) -> bool:
    """Whether one function really took longest, and not by a hair."""
    largest = sorted(line["true"].values(), reverse=True)
    return len(largest) < 2 or largest[0] - largest[1] > CLEAR


def is_right(line: Line) -> bool:
    """Whether the first function named is the one that took longest."""
    wanted = line.get("wanted") or max(line["true"], key=lambda name: line["true"][name])
    return bool(line["first"] == wanted)


def errors(line: Line, tool: str) -> list[float]:
    """In points, for each function that really had a share worth naming."""
    return [
        abs((line[tool].get(name) or 0.0) - share) * 100
        for name, share in line["true"].items()
        if share >= NAMED_FROM
    ]


def apart(lines: list[Line], tool: str) -> float | None:
    """The largest difference, in points, between the profiler's mean share and another tool's, over
    the requests to one route."""
    names = lines[0]["true"] or {lines[0]["first"]: 1.0}
    found = [
        abs(mean(line["profiler"].get(name, 0.0) for line in lines) - lines[0][tool][name]) * 100
        for name, share in names.items()
        if share >= NAMED_FROM and name in lines[0].get(tool, {})
    ]
    return max(found, default=None)


def text_of(values: list[float]) -> str:
    """Mean and largest."""
    return f"{mean(values):.1f} / {max(values):.0f}" if values else ""


def main() -> int:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=12)
    given = parser.parse_args()
    options = ("--seed", str(given.seed), "--count", str(given.count))
    lines = run(*options)
    for number in range(given.fresh):
        lines += run(*options, "--fresh", str(number))
    by_group: dict[str, list[Line]] = {}
    for line in lines:
        by_group.setdefault(line["group"], []).append(line)
    kept = True
    print(
        "| group | requests | clear | right | error of a share: profiler | py-spy | pyinstrument |"
    )
    print("|---|---|---|---|---|---|---|")
    for group, each in by_group.items():
        clear = [line for line in each if is_clear(line)]
        right = sum(map(is_right, clear))
        kept &= right >= min(0.95 * len(clear), len(clear) - 1)
        found = {
            tool: [error for line in each if tool in line for error in errors(line, tool)]
            for tool in ("profiler", "py-spy", "pyinstrument")
        }
        print(
            f"| {group} | {len(each)} | {len(clear)} | **{right}** |"
            f" {' | '.join(text_of(values) for values in found.values())} |"
        )
    by_route: dict[str, list[Line]] = {}
    for line in lines:
        by_route.setdefault(line["name"], []).append(line)
    print("\n| the same share as | routes | median / largest difference | above 10 points |")
    print("|---|---|---|---|")
    for tool in ("py-spy", "pyinstrument"):
        differences = [(apart(each, tool), each[0]) for each in by_route.values()]
        known = [(value, line) for value, line in differences if value is not None]
        far = [(value, line) for value, line in known if value > 10]
        values = [value for value, _ in known]
        print(f"| {tool} | {len(known)} | {median(values):.1f} / {max(values):.0f} | {len(far)} |")
        for value, line in far:
            print(f"  {tool} {value:.0f}: {line}", file=sys.stderr)
    for line in lines:
        if is_clear(line) and not is_right(line):
            print(f"  WRONG {line}", file=sys.stderr)
    samples = [line["samples"] / (line["seconds"] * 10) for line in lines]
    print(f"\nsamples for 100 ms: {median(samples):.0f} (median), {min(samples):.1f} at least")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
