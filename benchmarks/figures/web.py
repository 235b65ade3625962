"""How many requests a second are left when a route enqueues: gunicorn, gthread with 4 threads, and
wrk with 4 connections.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.request import urlopen

from ..field import Entry, Field, PeerFailed
from ..peers import BY_NAME
from ..services import ServiceMissing, free_port, listening, program
from . import Effort, Figure, Samples, interleave, tabulate

SECONDS = 3.0
PEERS = (
    *(
        "offload-power",
        "offload-process",
        "sqlite-power",
        "sqlite-process",
        "thread",
        "huey-sqlite",
    ),
    *("huey-redis", "rq", "dramatiq", "celery-redis", "procrastinate"),
)
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@contextmanager
def served(entry: Entry) -> Iterator[str]:
    """`benchmarks.jobs` with this peer; gives its address."""
    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", "benchmarks.jobs:create_app()"]
    argv += ["--worker-class", "gthread", "--threads", "4", "--bind", f"127.0.0.1:{port}"]
    argv += ["--no-control-socket", "--log-level", "error"]
    address = f"http://127.0.0.1:{port}"
    with listening(argv, port, entry.folder / "web.log", entry.environ):
        try:
            urlopen(f"{address}/", timeout=30).close()
        except OSError as error:
            raise PeerFailed(f"{error}: {(entry.folder / 'web.log').read_text()[-300:]}") from None
        yield address


def load(url: str, seconds: float) -> tuple[float, float]:
    """Requests a second, and the p99 in ms."""
    argv = [program("wrk"), "-t1", "-c4", f"-d{seconds:g}", "--latency", url]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise PeerFailed("its route fails")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    assert rate is not None
    assert tail is not None
    return float(rate[1]), float(tail[1]) * UNITS[tail[2]]


def measure(field: Field, effort: Effort) -> Figure:
    """The bare route and the one that enqueues, one right after the other, per peer and round."""
    figure = Figure(
        "a route that enqueues, as a share of a bare one's requests/s",
        ["share", "x floor", "x best peer", "requests/s", "p99 ms", "p99 of bare ms"],
    )
    seconds = max(1, round(SECONDS * effort.scale))
    rates: Samples = {}
    tails: Samples = {}
    bare_tails: Samples = {}
    with ExitStack() as stack:
        addresses: dict[str, str] = {}
        entries = []
        for peer in field.peers:
            if peer.name in PEERS:
                entry = field.entry(peer)
                try:
                    if peer.name == "procrastinate":  # its own sender makes the tables
                        stack.enter_context(entry.sender())
                    addresses[peer.name] = stack.enter_context(served(entry))
                    entries.append(entry)
                except (PeerFailed, ServiceMissing) as error:
                    figure.notes.append(f"{peer.name} left out: {error}")

        def share(entry: Entry) -> float:
            bare, bare_tail = load(f"{addresses[entry.name]}/", seconds)
            rate, tail = load(f"{addresses[entry.name]}/enqueue", seconds)
            rates.setdefault(entry.name, []).append(rate)
            tails.setdefault(entry.name, []).append(tail)
            bare_tails.setdefault(entry.name, []).append(bare_tail)
            return rate / bare

        samples = interleave(figure, entries, effort.rounds, share)
    more = {n: [statistics.median(s[n]) for s in (rates, tails, bare_tails)] for n in samples}
    tabulate(figure, samples, more, high=True)
    _with_worker(field, figure, seconds, effort.rounds)
    _judge(figure)
    return figure


def _with_worker(field: Field, figure: Figure, seconds: float, rounds: int) -> None:
    """The same while a worker runs the jobs, on cores that wrk and gunicorn use already."""
    if "offload-power" not in figure.rows:
        return
    entry = field.entry(BY_NAME["offload-power"])
    with served(entry) as address, entry.worker():
        time.sleep(1.5)
        pairs = [
            (load(f"{address}/", seconds), load(f"{address}/enqueue", seconds))
            for _ in range(rounds)
        ]
    shares = [loaded[0] / bare[0] for bare, loaded in pairs]
    figure.rows["offload-power, worker busy"] = [
        statistics.median(shares),
        None,
        None,
        *(statistics.median(loaded[which] for _, loaded in pairs) for which in (0, 1)),
        statistics.median(bare[1] for bare, _ in pairs),
    ]


def _judge(figure: Figure) -> None:
    offload, floor = figure.rows.get("offload-power"), figure.rows.get("sqlite-power")
    if offload and floor:
        figure.judge("offload-power: share of the bare route", offload[0], 0.6, at_least=True)
        assert offload[4] is not None
        assert floor[4] is not None
        figure.judge("offload-power: p99, x raw SQLite behind a lock", offload[4] / floor[4], 1.5)
    figure.notes.append("No worker runs, except in the last row.")
