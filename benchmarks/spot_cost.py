"""What spotting costs a request that is fast: the same app with and without, in turns.

    python -m benchmarks.spot_cost [--rounds 3000]

All variants run in this process, one after the other in blocks of 20 requests and in random order,
so that a machine that speeds up or slows down does so for all. The clock is the processor time of
the whole process: it counts the watchdog's thread too, and no other programs. The column "quiet" is
the difference of the tenth percentiles of the blocks, "median" that of the medians.
Server-Timing is another matter: it is for debugging, and costs more.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, render_template_string
from werkzeug.test import EnvironBuilder

from flask_offload.evidence.install import EvidenceSettings, install

SEED = 6
BLOCK = 20
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
        began = time.process_time()
        for _ in range(requests):
            body = app.wsgi_app(dict(environ), start_response)
            for _chunk in body:
                pass
            body.close()  # type: ignore[attr-defined]
        return (time.process_time() - began) / requests

    return run


def variants(store: Path) -> dict[str, EvidenceSettings | None]:
    """What is compared; the first is the measure of the others."""
    return {
        "plain": None,
        "plain again (noise)": None,
        "installed, but off": EvidenceSettings(False, False),
        "a tenth of requests watched": EvidenceSettings(False, 0.1, store_path=store),
        "watched": EvidenceSettings(False, True, store_path=store),
        "Server-Timing": EvidenceSettings(True, False),
    }


def measure(path: str, rounds: int, store: Path) -> dict[str, list[float]]:
    """Microseconds of a request, for each block of requests to each variant."""
    run = {name: requester(make_app(item), path) for name, item in variants(store).items()}
    took: dict[str, list[float]] = {name: [] for name in run}
    order = list(run)
    random.seed(SEED)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            took[name].append(run[name](BLOCK) * 1e6)
    return {name: sorted(values) for name, values in took.items()}


def main() -> None:
    """Print a line for each variant and page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3000)
    rounds = parser.parse_args().rounds
    print(f"{'':<8}{'':<30}{'µs':>8}{'added: quiet':>14}{'median':>9}")
    for path, share in (("/", 1.0), ("/page", 0.1)):
        with tempfile.TemporaryDirectory() as folder:
            took = measure(path, int(rounds * share), Path(folder) / "evidence.sqlite3")
        plain = took["plain"]
        quiet, middle = len(plain) // 10, len(plain) // 2
        for name, values in took.items():
            print(
                f"{path:<8}{name:<30}{values[middle]:>8.1f}"
                f"{values[quiet] - plain[quiet]:>14.2f}{values[middle] - plain[middle]:>9.2f}"
            )


if __name__ == "__main__":
    main()
