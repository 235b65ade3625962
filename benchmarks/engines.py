"""What a job costs on each of our engines, and beside plain Celery, in one run.

    python -m benchmarks.engines [--only celery] [--rounds 3] [--json]

The same app, the same task and the same commands; the environment chooses the engine. Each figure
is taken once a round from every engine, in turns, and is the median of the rounds. "x" is the
median of the rounds' own ratios: to the embedded engine as it comes, and of the Celery engine to
plain Celery on the same broker, with its results in the same Redis.

Processor time hardly depends on what else the machine does, and time by the clock very much. It is
that of our own processes; what Redis, RabbitMQ and the kernel's writers need comes on top.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from .field import Entry, PeerFailed
from .figures import percentile
from .peers import BY_NAME, Peer
from .services import rabbitmq, redis

ENGINES = {
    "sqlite": "offload-power",
    "sqlite, durability process": "offload-process",
    "celery on Redis": "offload-celery-redis",
    "plain Celery on Redis": "celery-redis-results",
    "celery on RabbitMQ": "offload-celery-rabbitmq",
    "plain Celery on RabbitMQ": "celery-rabbitmq-results",
    "plain Celery with confirms on RabbitMQ": "celery-rabbitmq-confirmed-results",
}
BASE = "sqlite"
PLAIN = "plain Celery"
ENQUEUES = 1000
BATCH = 200
BATCHES = 3
DRAINED = {"sqlite": 4000, "celery": 2000}
BEGUN = 20
"""Jobs after which a worker is at work, and no longer starting."""
PICKUPS = 60
PATIENCE = 120.0

Samples = dict[str, list[dict[str, float]]]
"""By engine, the figures of each round."""


class Ground:
    """The services, and a fresh place in them for each run of each engine."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        for name in ("redis", "rabbitmq"):
            (folder / name).mkdir()
        self._redis = stack.enter_context(redis(folder / "redis"))
        self._rabbit = stack.enter_context(rabbitmq(folder / "rabbitmq"))
        self._runs = 0

    def entry(self, peer: Peer) -> Entry:
        """A peer with a folder and a database of its own. The queue of a shared RabbitMQ is empty
        again after each run."""
        self._runs += 1
        records = f"{self._redis}/{self._runs}"
        entry = Entry(peer, self._folder / f"run{self._runs}", None)
        broker = self._rabbit if peer.service == "rabbitmq" else records
        entry.environ |= {
            "FLASK_OFFLOAD_CELERY_RECORDS": records,
            "FLASK_CELERY__broker_url": broker,
            "BENCH_URL": broker,
            "BENCH_RESULTS": records,
        }
        return entry


def measure(ground: Ground, peer: Peer) -> dict[str, float]:
    """All figures of one engine, once. Raises PeerFailed."""
    entry = ground.entry(peer)
    with entry.sender() as sender:
        sender.ask("enqueue", 20)
        before = processor_time(sender.pid)
        took = sender.ask("enqueue", ENQUEUES)
        sending = (processor_time(sender.pid) - before) / ENQUEUES
        drained = DRAINED["celery" if peer.service else "sqlite"]
        many = sender.ask("many", BATCH, BATCHES) if peer.is_flask_offload else []
        sender.ask("fill", drained)
        jobs = 20 + ENQUEUES + len(many) * BATCH + drained
        with entry.worker() as worker:
            _wait(entry, BEGUN)
            before, begun = processor_time(worker), entry.notes.count()
            _wait(entry, jobs)
            running = (processor_time(worker) - before) / (jobs - begun)
            started = [start for _, start in entry.notes.read()][begun:]
            pickups = sender.ask("pickup", PICKUPS, 20.0, 30.0)
    return {
        "enqueue µs": percentile(took, 0.5) * 1e6,
        "p99 µs": percentile(took, 0.99) * 1e6,
        "of processor time µs": sending * 1e6,
        "enqueue_many, per job µs": statistics.median(many or [math.nan]) * 1e6,
        "drain jobs/s": (len(started) - 1) / (started[-1] - started[0]),
        "processor time of the worker, per job µs": running * 1e6,
        "pickup ms": percentile(pickups, 0.5) * 1e3,
    }


def _wait(entry: Entry, jobs: int) -> None:
    if not entry.notes.wait(jobs, PATIENCE, 0.002):
        raise PeerFailed(f"{entry.notes.count()} jobs in {PATIENCE:g} s: {entry.worker_log}")


def processor_time(session: int) -> float:
    """Seconds that the processes of this session have computed, in ticks of 10 ms."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rounds(count: int, engines: Sequence[str], say: Callable[[str], None]) -> Samples:
    """Every one of the engines in every round, in a new order each time."""
    samples: Samples = {name: [] for name in engines}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engines-")))
        ground = Ground(folder, stack)
        for number in range(count):
            for name in random.sample(engines, len(engines)):
                say(f"round {number + 1} of {count}: {name}")
                samples[name].append(measure(ground, BY_NAME[ENGINES[name]]))
    return samples


def table(samples: Samples, base_of: Callable[[str], str]) -> str:
    """As Markdown, each engine beside the one that `base_of` names."""
    figures = list(next(iter(samples.values()))[0])
    lines = ["| | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
    for name, found in samples.items():
        cells = []
        for figure in figures:
            middle = statistics.median(each[figure] for each in found)
            pairs = zip(found, samples[base_of(name)], strict=True)
            ratio = statistics.median(own[figure] / base[figure] for own, base in pairs)
            value = f"{middle:,.3g}" if middle < 1000 else f"{middle:,.0f}"
            cells.append("" if math.isnan(middle) else f"{value} ({ratio:.2g} x)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engines", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="engines whose name contains this")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    chosen = [name for name in ENGINES if given.only.lower() in name.lower()]
    samples = rounds(given.rounds, chosen, lambda text: print(text, flush=True))
    if given.json:
        print(json.dumps(samples))
        return
    print(
        f"\n{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {os.cpu_count()} cores,", end=""
    )
    print(f" load {os.getloadavg()[0]:.1f}, {given.rounds} rounds\n")
    own = {name: found for name, found in samples.items() if not name.startswith(PLAIN)}
    if BASE in own:
        print(table(own, lambda _: BASE), end="\n\n")
    on_celery = {name: found for name, found in samples.items() if "celery" in name.lower()}
    if on_celery:
        print(table(on_celery, lambda name: f"{PLAIN} on {name.rpartition(' ')[2]}"))


if __name__ == "__main__":
    main()
