"""Does spotting cost a real server throughput? gunicorn under wrk, with and without, in turns.

    python -m benchmarks.spot_wrk [--rounds 6] [--seconds 4]

Both servers (1 worker, 4 threads) run all the time; wrk (1 thread, 8 connections) loads one of them
after the other, and the order changes with each round. Compare the difference with the spread of
the rounds: a smaller one is noise.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from flask import Flask

from benchmarks.spot_cost import make_app
from flask_offload.evidence.install import EvidenceSettings
from support import free_port, listening, require_tool, running

ROOT = Path(__file__).parents[1]


def create_app() -> Flask:
    """What gunicorn runs; SPOT_STORE in the environment turns spotting on."""
    store = os.environ.get("SPOT_STORE")
    return make_app(EvidenceSettings(False, True, store_path=Path(store)) if store else None)


def requests_per_second(wrk: str, port: int, seconds: int) -> float:
    """One run of wrk."""
    argv = [wrk, "-t1", "-c8", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    with running(argv, timeout=seconds + 30) as process:
        process.wait(seconds + 30)
        printed = process.output()
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if found is None or "Non-2xx" in printed:
        raise RuntimeError(printed)
    return float(found[1])


def main() -> None:
    """Print each round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    wrk = require_tool("wrk")
    found: dict[str, list[float]] = {"plain": [], "watched": []}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ports = {name: free_port() for name in found}
        for name, port in ports.items():
            store = str(Path(folder) / "evidence.sqlite3") if name == "watched" else ""
            argv = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
            argv += ["--workers", "1", "--threads", "4", "--no-control-socket"]
            stack.enter_context(
                running(
                    [*argv, "benchmarks.spot_wrk:create_app()"],
                    cwd=ROOT,
                    env={"SPOT_STORE": store},
                    ready=lambda _, port=port: listening(port),
                )
            )
        order = list(found)
        for _ in range(arguments.rounds):
            order.reverse()
            for name in order:
                found[name].append(requests_per_second(wrk, ports[name], arguments.seconds))
    for name, rates in found.items():
        print(f"{name:<8} median {statistics.median(rates):,.0f} requests/s of", end=" ")
        print(", ".join(f"{rate:,.0f}" for rate in rates))


if __name__ == "__main__":
    main()
