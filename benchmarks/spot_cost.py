"""What spotting costs a request that is fast: two apps, one with and one without, in turns.

    python -m benchmarks.spot_cost [--rounds 60] [--requests 400]

Both apps run in this process, and each round times a block of requests to either, in random order,
so that a machine that speeds up or slows down does so for both. The difference is taken round by
round; the middle one counts, and its spread is told (median absolute deviation). The clock is the
processor time of the whole process: it counts the watchdog's thread too, and no other programs.
Server-Timing is off in both: it is for debugging, and costs more (the last line tells how much).
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, render_template_string
from werkzeug.test import EnvironBuilder

from flask_offload.evidence.install import EvidenceSettings, install

SEED = 6
_PAGE = "<ul>{% for n in range(200) %}<li>{{ n }} of {{ total }}</li>{% endfor %}</ul>"


def make_app(settings: EvidenceSettings | None) -> Flask:
    """An app with a view that does nothing and one that renders a page."""
    app = Flask(__name__)

    @app.get("/")
    def index() -> str:
        return "ok"

    @app.get("/page")
    def page() -> str:
        return render_template_string(_PAGE, total=200)

    if settings is not None:
        install(app, settings)
    return app


def requester(app: Flask, path: str) -> Callable[[int], float]:
    """A function that makes so many requests, as a server would, and tells the seconds for each."""
    environ = EnvironBuilder(path).get_environ()

    def start_response(status: str, headers: list[Any], exc_info: Any = None) -> Any:
        assert status.startswith("200")

    def run(requests: int) -> float:
        gc.collect()
        began = time.process_time()
        for _ in range(requests):
            body = app.wsgi_app(dict(environ), start_response)
            for _chunk in body:
                pass
            body.close()  # type: ignore[attr-defined]
        return (time.process_time() - began) / requests

    return run


def compare(
    path: str, settings: EvidenceSettings | None, rounds: int, requests: int
) -> tuple[float, float, float]:
    """Microseconds of a plain request, what `settings` add to it, and the spread of that."""
    pair = {
        False: requester(make_app(None), path),
        True: requester(make_app(settings), path),
    }
    order = [False, True]
    random.seed(SEED)
    plain, differences = [], []
    for run in pair.values():
        run(requests)
    for _ in range(rounds):
        random.shuffle(order)
        took = {which: pair[which](requests) * 1e6 for which in order}
        plain.append(took[False])
        differences.append(took[True] - took[False])
    middle = statistics.median(differences)
    spread = statistics.median(abs(difference - middle) for difference in differences)
    return statistics.median(plain), middle, spread


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--requests", type=int, default=400)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(Path(folder) / "evidence.sqlite3", arguments.rounds, arguments.requests)


def show(store: Path, rounds: int, requests: int) -> None:
    """Measure each case and print its line."""
    cases: dict[str, EvidenceSettings | None] = {
        "watched": EvidenceSettings(False, True, store_path=store),
        "a tenth of requests watched": EvidenceSettings(False, 0.1, store_path=store),
        "installed, but off": EvidenceSettings(False, False),
        "the same app twice (noise)": None,
        "Server-Timing": EvidenceSettings(True, False),
    }
    print(f"{'case':<30}{'path':<8}{'plain µs':>10}{'added µs':>10}{'± µs':>8}")
    for name, settings in cases.items():
        for path in ("/", "/page"):
            plain, added, spread = compare(path, settings, rounds, requests)
            print(f"{name:<30}{path:<8}{plain:>10.1f}{added:>10.2f}{spread:>8.2f}")


if __name__ == "__main__":
    main()
