"""The child of benchmarks.spot_accuracy: makes the requests, and prints what was found.

One line of JSON for each request. Each mix is requested by a function with a name of its own, by
which py-spy's samples can be assigned. `true` is what the functions measured themselves.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "apps"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from flask import Flask, Response
from pyinstrument import Profiler
from pyinstrument.frame import Frame

import blocking_app
from blocking_app import (
    CASES,
    Found,
    Mix,
    compute_long,
    compute_often,
    random_mixes,
    services,
    wait_long,
)
from blocking_app import to_be_named as named
from flask_offload.profiler.install import install
from flask_offload.profiler.spot_report import SpotReport

ABOVE_MS = 60.0
REPEATS = 3
"""Requests to each mix: a short one has few samples of py-spy's."""
Step = Callable[[float], None]


# --- the steps of the mixes --------------------------------------------------------------------


def compute_text(seconds: float) -> None:
    with named("compute_text"):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            ",".join(str(number) for number in range(100)).split(",")


def work(seconds: float) -> None:
    time.sleep(seconds)


def crunch(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(200))


def load(seconds: float) -> None:
    with named("load"):
        work(seconds)


def send(seconds: float) -> None:
    with named("send"):
        work(seconds)


def score(seconds: float) -> None:
    with named("score"):
        crunch(seconds)


def rank(seconds: float) -> None:
    with named("rank"):
        crunch(seconds)


def join_thread(seconds: float) -> None:
    with named("join_thread"):
        thread = threading.Thread(target=time.sleep, args=[seconds])
        thread.start()
        thread.join()


def ask_pool(seconds: float) -> None:
    with named("ask_pool"), ThreadPoolExecutor(1) as pool:
        pool.submit(crunch, seconds).result()


def wait_for_queue(seconds: float) -> None:
    with named("wait_for_queue"):
        line: queue.Queue[int] = queue.Queue()
        timer = threading.Timer(seconds, line.put, [7])
        timer.start()
        line.get()
        timer.join()


def mixes(seed: int, count: int, steps: tuple[Step, ...], least: float, most: float) -> list[Mix]:
    """Mixes of 2 or 3 different steps that take so many seconds together."""
    chosen = random.Random(seed)
    made = []
    for _ in range(count):
        taken = chosen.sample(steps, k=min(chosen.randint(2, 3), len(steps)))
        weights = [chosen.uniform(0.15, 1.0) for _ in taken]
        seconds = chosen.uniform(least, most)
        made.append(
            Mix([(s, seconds * w / sum(weights)) for s, w in zip(taken, weights, strict=True)])
        )
    return made


def groups(seed: int, count: int) -> dict[str, list[Mix]]:
    """The mixes of each group."""
    computing = (compute_long, compute_often, compute_text)
    return {
        "random mixes": random_mixes(2 * count, seed),
        "computing for 100 to 500 ms": mixes(seed + 1, count, computing, 0.1, 0.5),
        "shared helpers": mixes(seed + 2, count, (load, send), 0.1, 0.6)
        + mixes(seed + 3, count // 2, (score, rank), 0.1, 0.6),
        "streams": mixes(seed + 4, count, (wait_long, compute_long, compute_text), 0.1, 0.5),
        "threads that the view waits for": mixes(
            seed + 5, count, (join_thread, ask_pool, wait_for_queue), 0.1, 0.6
        ),
    }


def add(app: Flask, mix: Mix, name: str, kind: str) -> None:
    """A route for a mix; as a stream, with a length every other time."""

    def stream() -> Response:
        def chunks() -> Iterator[str]:
            blocking_app._running.mix = mix
            mix.true.clear()
            for step, seconds in mix.steps:
                step(seconds)
                yield "x"

        length = {"Content-Length": str(len(mix.steps))} if name[-1] in "02468" else {}
        return Response(chunks(), headers=length)

    app.add_url_rule(f"/{name}", name, stream if kind == "streams" else mix.run)


# --- requests ----------------------------------------------------------------------------------


class Driver:
    """Makes requests, and prints a line about each."""

    def __init__(self, app: Flask, found: Found) -> None:
        self._client = app.test_client()
        self._found = found

    def ask(self, path: str, name: str) -> None:
        """Make a request within a function of this name."""
        space: dict[str, Any] = {"client": self._client, "path": path}
        exec(f"def {name}():\n    with client.get(path) as answer: answer.get_data()", space)
        space[name]()

    def pyinstrument(self, path: str, name: str) -> Frame | None:
        """The same under pyinstrument."""
        profiler = Profiler(interval=0.001, async_mode="disabled")
        with profiler:
            self.ask(path, f"pyinstrument_{name}")
        self._found.next()
        return profiler.last_session.root_frame() if profiler.last_session else None

    def group(self, group: str, path: str, name: str, mix: Mix) -> None:
        """Requests to a mix, and the lines about them."""
        root = self.pyinstrument(path, name)
        for _ in range(REPEATS):
            self.ask(path, name)
            line = line_about(group, name, self._found.next(), mix)
            line["pyinstrument"] = {each: part_of(root, each) for each in line["true"]}
            print(json.dumps(line), flush=True)


def line_about(group: str, name: str, report: SpotReport, mix: Mix | None) -> dict[str, Any]:
    """What was found, by function; a helper that several called is split into them."""
    named_shares: dict[str, float] = {}
    for blocker in report.blockers:
        for caller, share in blocker.callers or ((blocker.function, 1.0),):
            named_shares[caller] = named_shares.get(caller, 0.0) + share * blocker.share
    true = {each: took / report.seconds for each, took in mix.true.items()} if mix else {}
    return {
        "group": group,
        "name": name,
        "true": true,
        "profiler": named_shares,
        "first": next(iter(named_shares), ""),
        "samples": report.samples,
        "seconds": report.seconds,
        "sentence": report.sentence,
    }


def part_of(root: Frame | None, function: str) -> float:
    """The share of its time that a session of pyinstrument saw in a function."""
    return _time_in(root, function) / root.time if root is not None and root.time else 0.0


def _time_in(frame: Frame, function: str) -> float:
    if frame.function == function.rpartition(".")[2]:
        return frame.time
    return sum(_time_in(child, function) for child in frame.children)


def routes(driver: Driver, found: Found) -> None:
    """The routes made by hand: one function is to be named."""
    for number, case in enumerate(CASES):
        name = f"route_{number}"
        driver.ask(case.path, name)
        report = found.next()
        if case.path == "/nested":
            report = found.next()  # the inner request is reported first
        line = line_about("routes made by hand", name, report, None)
        line["wanted"] = case.function
        line["is_async"] = "async" in case.path  # it runs in another thread
        if case.path not in ("/nested", "/regex") and not line["is_async"]:
            root = driver.pyinstrument(case.path, name)
            line["pyinstrument"] = {line["first"]: part_of(root, line["first"])}
        print(json.dumps(line), flush=True)


def main() -> None:
    """Print a line for each request."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--fresh", type=int, help="only two mixes, in this process that is new")
    given = parser.parse_args()
    found = Found()
    time.sleep(0.5)  # py-spy begins
    if given.fresh is not None:
        app = Flask(__name__)
        install(app, found.settings(spot_above_ms=ABOVE_MS))
        app.logger.setLevel(logging.ERROR)
        first, second = random_mixes(2, given.seed + given.fresh)
        add(app, first, "first", "")
        add(app, second, "second", "")
        driver = Driver(app, found)
        driver.ask("/first", f"first_{given.fresh}")
        driver.ask("/second", f"second_{given.fresh}")
        for group, mix in (("first requests", first), ("right after it", second)):
            name = f"{'first' if mix is first else 'second'}_{given.fresh}"
            print(json.dumps(line_about(group, name, found.next(), mix)), flush=True)
        return
    app = blocking_app.make_app(found.settings(spot_above_ms=ABOVE_MS))
    app.logger.setLevel(logging.ERROR)
    made = groups(given.seed, given.count)
    for group, number in [(g, n) for g, each in made.items() for n in range(len(each))]:
        add(app, made[group][number], f"{list(made).index(group)}x{number}", group)
    driver = Driver(app, found)
    with services():
        routes(driver, found)
    for index, (group, each) in enumerate(made.items()):
        for number, mix in enumerate(each):
            driver.group(group, f"/{index}x{number}", f"mix_{index}_{number}", mix)


if __name__ == "__main__":
    main()
