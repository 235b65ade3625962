"""Parts of the plan that are tests: run here for the figures, and in the long form for longer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence

from .. import ROOT
from ..scenario import Run, scenario
from ..world import PYTHON


@scenario(
    "T21",
    "hypothesis does anything in any order, by two workers at once, to the store and to a plain"
    " model of it; after each of 50 steps all rows are compared",
    only_long=True,
)
def store_machine(run: Run) -> None:
    examples = 10_000
    passed = _pytest(run, ["store/test_store_model.py"], OFFLOAD_MACHINE_EXAMPLES=f"{examples}")
    run.figure("histories", f"{examples:,} of up to 50 steps")
    run.gate("they never differ", passed, passed.startswith("all"))


@scenario(
    "T18",
    "Redis and RabbitMQ are killed, stopped, cut off and started again under the Celery engine;"
    " their connections are reset, packets get lost",
    only_long=True,
)
def celery_outages(run: Run) -> None:
    until = time.monotonic() + (run.length or 3600)
    cycles, failed = 0, ""
    while not failed and time.monotonic() < until:
        files = [
            "celery_engine/test_celery_outage.py",
            "celery_engine/test_celery_hosts.py",
            "celery_engine/test_celery_bad_network.py",
        ]
        passed = _pytest(run, files, OFFLOAD_LINE_SECONDS="30")
        cycles += 1
        failed = "" if passed.startswith("all") else f"in cycle {cycles}: {passed}"
    run.figure("cycles, each with some twenty failures of a broker, a host, a line", cycles)
    run.gate("all its tests pass, each time", failed or "yes", not failed)


@scenario(
    "T19",
    "jobs of the Celery engine that come due, or run, long after the broker's visibility timeout",
    only_long=True,
)
def celery_late_jobs(run: Run) -> None:
    passed = _pytest(run, ["celery_engine/test_celery_late_results.py"], OFFLOAD_LATE_JOBS="1000")
    run.gate("all its tests pass", passed, passed.startswith("all"))


@scenario(
    "T23",
    "hostile input to everything that listens or reads: requests, bodies, ids, pages, payloads,"
    " settings, files",
    only_long=True,
)
def hostile_input(run: Run) -> None:
    examples = 2_000
    files = [
        "web/test_hostile_requests.py",
        "web/test_hostile_pages.py",
        "unit/test_hostile_settings.py",
    ]
    passed = _pytest(
        run, [*files, "unit/test_payload_hostile.py"], OFFLOAD_HOSTILE_EXAMPLES=f"{examples}"
    )
    run.figure("requests of each kind", f"{examples:,}")
    run.gate("all its tests pass", passed, passed.startswith("all"))


def _pytest(run: Run, files: Sequence[str], **env: str) -> str:
    """Run tests; "all 12", or what pytest says of those that failed or were left out."""
    argv = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    argv += ["--timeout", "7200", "-o", "faulthandler_timeout=7200"]  # those of CI are shorter
    argv += [f"--hypothesis-seed={run.report.seed}", *(f"tests/{name}" for name in files)]
    # in CI nothing is skipped: the same here
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, "CI": "true", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().rpartition("\n")[2]
    number = re.fullmatch(r"(\d+) passed in .*", last)
    if number and not done.returncode:
        return f"all {number[1]}"
    print(done.stdout, done.stderr, sep="\n", file=sys.stderr)  # it may not come again
    return last
