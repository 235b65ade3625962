"""How often `flask offload measure --baseline` calls an unchanged app worse.

    python -m benchmarks.measure_noise [RUNS]

A gunicorn serves one app; every second run has a program beside it on each core. One line for each
false alarm, and the counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_offload.measure import Measurement, Options, measure
from flask_offload.measure.budget import check_baseline

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("helpers", "apps")]

OPTIONS = Options(runs=2, traced=1, probes=6, bystander="/", seconds=1.0, film=False)
BUSY = "while True: pass"


@contextmanager
def programs(count: int) -> Iterator[None]:
    """So many programs that use a core each."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def main(runs: int) -> None:
    """Print what was found."""
    from measure_support import gunicorn

    alarms = seconds = 0
    with gunicorn(workers=2, block_s=0.3) as origin:
        urls = [f"{origin}/text", f"{origin}/sync"]
        earlier = measure(urls, OPTIONS)
        for number in range(runs):
            with programs((os.cpu_count() or 1) if number % 2 else 0):
                failed = _failed(urls, earlier)
                if failed:
                    seconds += 1
                    failed &= _failed(urls, earlier)
            if failed:
                alarms += 1
                print(f"run {number}: {', '.join(sorted(failed))}", flush=True)
    print(f"{runs} runs, {seconds} measured twice, {alarms} false alarms")


def _failed(urls: list[str], earlier: Measurement) -> set[str]:
    checks = check_baseline(measure(urls, OPTIONS), earlier, "earlier")
    return {check.name for check in checks if not check.passed}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
