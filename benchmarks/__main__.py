"""Speed, side by side with the peers, on this machine.

    python -m benchmarks [--quick] [--only enqueue,drain] [--peers offload-power,rq] [--record]

Prints a table per figure and writes benchmarks/results.json; --record adds a line to
benchmarks/history.md and puts the tables into docs/evidence/benchmark-tables.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .field import Field
from .figures import Effort, Figure
from .peers import BY_NAME, PEERS, Peer
from .record import record
from .report import plain, text
from .services import version

FIGURES = ("enqueue", "many", "drain", "pickup", "idle", "web", "cpu", "waiting", "progress")
RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Read the options, measure, tell."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less work")
    parser.add_argument("--only", type=names(FIGURES), default=list(FIGURES), metavar="FIGURE,…")
    parser.add_argument("--peers", type=names(BY_NAME), metavar="PEER,…", default=list(BY_NAME))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="into the docs and the history")
    given = parser.parse_args()
    random.seed(given.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # services and workers are ended then too
    effort = Effort(rounds=2, scale=0.25) if given.quick else Effort(rounds=3, scale=1.0)
    # the floor is always there, as all else is compared with it
    peers = [peer for peer in PEERS if peer.name in given.peers or peer.is_floor]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.chmod(folder, 0o755)  # Postgres may run as another user
        with Field(Path(folder), peers) as field:
            about = describe(field)
            print(json.dumps(about, indent=1), flush=True)
            figures = {}
            for name in given.only:
                figures[name] = run(name, field, effort)
                about["loads"][name] = os.getloadavg()[0]
    RESULTS.write_text(
        json.dumps({**about, "figures": {n: plain(f) for n, f in figures.items()}}, indent=1) + "\n"
    )
    missed = [v for figure in figures.values() for v in figure.verdicts if not v.held]
    held = sum(len(figure.verdicts) for figure in figures.values()) - len(missed)
    print(f"{held} targets held, {len(missed)} missed")
    if given.record:
        record(about, figures)


def names(known: Any) -> Any:
    """Parse a list of names with commas between them."""

    def parse(value: str) -> list[str]:
        found = value.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name}: one of {', '.join(known)}")
        return found

    return parse


def run(name: str, field: Field, effort: Effort) -> Figure:
    """One figure, printed as soon as it is there."""
    began = time.monotonic()
    module = importlib.import_module(f"benchmarks.figures.{name}")
    figure: Figure = module.measure(field, effort)
    load = os.getloadavg()[0]
    print(
        f"\n[{name}, {time.monotonic() - began:.0f} s, load {load:.1f}] {text(figure)}", flush=True
    )
    return figure


def describe(field: Field) -> dict[str, Any]:
    """When, where, and which versions."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}",
        "python": sys.version.split()[0],
        "versions": {peer.package: peer.version for peer in _packages(field)},
        "services": {name: version(name) for name in field.urls},
        "left out": dict(field.left_out),
        "loads": {},
    }


def _packages(field: Field) -> list[Peer]:
    return list({peer.package: peer for peer in field.peers}.values())


def commit() -> str:
    """The commit of this checkout, with a + when files differ from it; "" outside of one."""
    argv = ["git", "describe", "--always", "--dirty=+", "--abbrev=8"]
    here = Path(__file__).parent
    return subprocess.run(argv, cwd=here, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
