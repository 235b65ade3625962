"""Does the profiler name the right function, and are its shares right? Routes with known answers.

    python -m benchmarks.spot_accuracy [--mixes 40] [--seed 6]

The routes by hand and the random mixes are in tests/apps/blocking_app.py;
tests/profiler/test_spot_accuracy.py runs a part of the mixes. A mix counts as right when the first
function named is the one that really took longest; mixes whose two longest parts differ by less
than 5 points are left out of that. The error of a share is its difference, in points, from what the
function measured itself; it is taken over all functions that really had 10 % or more, and a
function that was not named had 0.
Ends with 1 when the promise is broken: 95 % right, mean error at most 3 points.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "apps"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from flask.testing import FlaskClient

from blocking_app import CASES, Found, Mix, add_mixes, make_app, random_mixes, services, shares_of
from flask_offload.profiler.findings import SpotReport

NAMED_FROM = 0.1
CLEAR = 0.05


def run_cases(client: FlaskClient, found: Found) -> int:
    """Run the routes made by hand; how many were right."""
    right = 0
    for case in CASES:
        with client.get(case.path) as answer:
            answer.get_data()
        report = found.next()
        if case.path == "/nested":
            report = found.next()  # the inner request is reported first
        first = report.blockers[0] if report.blockers else None
        is_right = (
            first is not None
            and first.function == case.function
            and case.waiting in (None, first.waiting)
        )
        right += is_right
        print("right" if is_right else "WRONG", report.sentence)
    return right


def errors_of(mix: Mix, report: SpotReport) -> list[float]:
    """In points, for each function that really had a share worth naming."""
    named = shares_of(report)
    true = {function: seconds / report.seconds for function, seconds in mix.true.items()}
    return [
        abs(share - named.get(function, 0.0)) * 100
        for function, share in true.items()
        if share >= NAMED_FROM
    ]


def is_clear(mix: Mix, report: SpotReport) -> bool:
    """Whether one function really took longest, and not by a hair."""
    longest = sorted(mix.true.values(), reverse=True)
    return len(longest) < 2 or (longest[0] - longest[1]) / report.seconds > CLEAR


def is_right(mix: Mix, report: SpotReport) -> bool:
    """Whether the first function named is the one that took longest."""
    longest = max(mix.true, key=lambda function: mix.true[function])
    return bool(report.blockers) and report.blockers[0].function == longest


def main() -> int:
    """Run everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mixes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=6)
    arguments = parser.parse_args()
    found = Found()
    app = make_app(found.settings())
    app.logger.setLevel(logging.ERROR)
    mixes = random_mixes(arguments.mixes, arguments.seed)
    add_mixes(app, mixes)
    client = app.test_client()
    with services():
        right = run_cases(client, found)
    errors: list[float] = []
    clear = clear_right = 0
    for number, mix in enumerate(mixes):
        client.get(f"/mix/{number}")
        report = found.next()
        errors += errors_of(mix, report)
        if is_clear(mix, report):
            clear += 1
            clear_right += is_right(mix, report)
    errors.sort()
    mean = sum(errors) / len(errors)
    print(f"routes by hand: {right} of {len(CASES)} right")
    print(
        f"random mixes (seed {arguments.seed}): {clear_right} of {clear} clear ones right,", end=" "
    )
    print(f"{len(mixes) - clear} without a clear answer")
    print(f"error of {len(errors)} shares: mean {mean:.1f} points,", end=" ")
    print(f"p95 {errors[int(len(errors) * 0.95)]:.1f}, largest {errors[-1]:.1f}")
    kept = right >= 0.95 * len(CASES) and clear_right >= 0.95 * clear and mean <= 3
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
