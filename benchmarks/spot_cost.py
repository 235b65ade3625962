"""What the profiler costs a request that is fast: the same app with and without, in turns.

    python -m benchmarks.spot_cost [--processes 9] [--seconds 10] [--page]

With --page the view renders a small page, else it does nothing.

All variants run in one process, one after the other in blocks of 8 requests and in random order,
so that a machine that speeds up or slows down does so for all; the first request of each block is
not counted. Each request is timed by itself, and the figure is the difference of the fifth
percentiles: what other programs do to a busy machine is in the slower requests. Where a process
has its code and data in memory makes half a microsecond: so it is the median of several processes,
with the smallest and the largest. The last line is what the sampler's thread takes meanwhile.
Server-Timing is another matter: it is for debugging, and costs more.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from flask import Flask, render_template
from jinja2 import DictLoader
from werkzeug.test import EnvironBuilder

from flask_offload.profiler.install import ProfilerSettings, install
from flask_offload.profiler.middleware import sampler

BLOCK = 8
PLAIN = "plain"


PAGE = """<!doctype html><title>{{ title }}</title>
<table>{% for row in rows %}<tr><td>{{ row.name }}</td><td>{{ row.total }}</td></tr>{% endfor %}
</table>"""


def make_app(settings: ProfilerSettings | None, page: bool) -> Flask:
    """An app with a view that does nothing, or renders a page of 30 rows."""
    app = Flask(__name__)
    app.jinja_loader = DictLoader({"page.html": PAGE})
    rows = [{"name": f"order {number}", "total": number * 7} for number in range(30)]

    @app.get("/")
    def index() -> str:
        return render_template("page.html", title="Orders", rows=rows) if page else "ok"

    if settings is not None:
        install(app, settings)
    return app


def requester(app: Flask) -> Callable[[list[float]], None]:
    """A function that makes a block of requests, as a server would, and notes microseconds."""
    environ = EnvironBuilder("/").get_environ()

    def start_response(status: str, headers: list[Any], exc_info: Any = None) -> Any:
        assert status.startswith("200")

    def run(took: list[float]) -> None:
        for number in range(BLOCK):
            sent = dict(environ)
            began = time.perf_counter()
            body = app.wsgi_app(sent, start_response)
            for _chunk in body:
                pass
            body.close()  # type: ignore[attr-defined]
            seconds = time.perf_counter() - began
            if number:
                took.append(seconds * 1e6)

    return run


def variants(store: Path) -> dict[str, ProfilerSettings | None]:
    """What is compared; the first is the measure of the others."""
    return {
        PLAIN: None,
        "plain again (noise)": None,
        "installed, but off": ProfilerSettings(False, False),
        "a tenth of requests profiled": ProfilerSettings(False, 0.1, store_path=store),
        "profiled": ProfilerSettings(False, True, store_path=store),
        "Server-Timing": ProfilerSettings(True, False),
    }


def measure(seconds: float, page: bool) -> tuple[dict[str, float], float]:
    """Microseconds of a request to each variant, and the sampler's share of a processor."""
    logging.disable()  # a stall of the machine is reported, rightly
    with tempfile.TemporaryDirectory() as folder:
        settings = variants(Path(folder) / "evidence.sqlite3")
        run = {name: requester(make_app(item, page)) for name, item in settings.items()}
        took: dict[str, list[float]] = {name: [] for name in run}
        order = list(run)
        for name in order:
            run[name]([])
        began = time.monotonic()
        beside = time.process_time() - time.thread_time()
        while time.monotonic() < began + seconds:
            random.shuffle(order)
            for name in order:
                run[name](took[name])
        beside = time.process_time() - time.thread_time() - beside
        sampler.stop()  # it writes a last time, before the folder goes
    quiet = {name: sorted(each)[len(each) // 20] for name, each in took.items()}
    return quiet, beside / (time.monotonic() - began)


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        seconds, page = [arguments.seconds], [arguments.page]
        runs = arguments.processes
        found = list(pool.map(measure, seconds * runs, page * runs))
    print(f"{'':<30}{'µs':>8}{'added':>8}   smallest … largest")
    for name in found[0][0]:
        added = [quiet[name] - quiet[PLAIN] for quiet, _ in found]
        print(
            f"{name:<30}{median(quiet[name] for quiet, _ in found):>8.1f}"
            f"{median(added):>8.2f}   {min(added):.2f} … {max(added):.2f}"
        )
    print(f"the sampler's thread: {median(beside for _, beside in found):.2%} of a processor")


if __name__ == "__main__":
    main()
