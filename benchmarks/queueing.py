"""How many workers a load needs: the formula, checked against a simulation and a real worker.

    python -m benchmarks.queueing                          # formula and simulation, side by side
    python -m benchmarks.queueing --worker                 # and a real worker with waiting jobs
    python -m benchmarks.queueing --rate 20 --service 0.6 --within 1     # how many for this load?

Formula and simulation are in `erlang.py`.
"""

from __future__ import annotations

import argparse

from .erlang import SEED, SHAPES, Load, Seen, servers_needed, simulate
from .queueing_worker import tell_worker

LOADS = (
    Load(rate=0.5, service=1.0, servers=1),
    Load(rate=6.0, service=0.6, servers=4),
    Load(rate=6.0, service=0.6, servers=6),
    Load(rate=20.0, service=0.6, servers=16),
    Load(rate=60.0, service=1.0, servers=70),
)


def tell(jobs: int, seed: int) -> None:
    """Print both, side by side."""
    print(f"{'jobs/s':>7} {'s each':>7} {'servers':>8} {'busy':>6}   formula / simulation (of it)")
    for load in LOADS:
        seen = Seen.of(simulate(load, jobs, seed=seed))
        print(
            f"{load.rate:>7g} {load.service:>7g} {load.servers:>8} {load.busy:>6.0%}"
            f"   must wait {_pair(load.must_wait, seen.must_wait)}"
            f"   mean wait s {_pair(load.mean_wait, seen.mean_wait)}"
            f"   p95 s {_pair(load.wait(0.95), seen.p95)}"
        )
    load = LOADS[1]
    print(f"\nOther service times, {load.rate:g} jobs/s on {load.servers} servers: mean wait s")
    for name, (draw, variation) in SHAPES.items():
        found = Seen.of(simulate(load, jobs, draw, seed)).mean_wait
        expected = load.mean_wait * (1 + variation) / 2
        print(f"  {name:12} cv² {variation:<5.3g} {_pair(expected, found)}")


def _pair(expected: float, found: float) -> str:
    ratio = f"({found / expected:.0%})" if expected else ""
    return f"{expected:.3f} / {found:.3f} {ratio:7}"


def main() -> None:
    """Read the options and tell."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.queueing", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=500_000, help="to simulate, of each load")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--worker", action="store_true", help="measure a real worker, too")
    parser.add_argument(
        "--rate", type=float, help="jobs per second: how many servers do they need?"
    )
    parser.add_argument("--service", type=float, default=1.0, help="mean seconds that a job takes")
    parser.add_argument("--within", type=float, default=1.0, help="seconds until it shall start")
    parser.add_argument("--share", type=float, default=0.95, help="of the jobs")
    given = parser.parse_args()
    if given.rate is not None:
        servers = servers_needed(given.rate, given.service, given.within, given.share)
        load = Load(given.rate, given.service, servers)
        print(
            f"{servers} servers: {load.busy:.0%} busy, {load.must_wait:.0%} of the jobs wait,"
            f" {given.share:.0%} start within {load.wait(given.share):.2f} s"
        )
        return
    tell(given.jobs, given.seed)
    if given.worker:
        tell_worker(given.seed)


if __name__ == "__main__":
    main()
