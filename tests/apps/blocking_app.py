"""An app full of blocking routes, and for each the function that ought to be named.

The routes are made by hand; `random_mixes` adds routes that call functions in random order, for
random times, and keep the true figures. `benchmarks/spot_accuracy.py` runs all of it.
"""

from __future__ import annotations

import asyncio
import functools
import io
import queue
import random
import re
import smtplib
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flask import Blueprint, Flask, current_app, render_template_string, request
from flask.views import MethodView
from PIL import Image
from werkzeug.serving import WSGIRequestHandler, make_server

from flask_offload.profiler.install import ProfilerSettings, install
from flask_offload.profiler.spot_report import SpotReport
from flask_offload_lab.mailserver import MailServer, Pace

SECONDS = 0.26
"""How long a route blocks: somewhat more than is reported."""


class Case(NamedTuple):
    """A route and what ought to be found; waiting None: no matter."""

    path: str
    function: str
    waiting: bool | None = None


CASES = (
    Case("/smtp", "send_mail", True),
    Case("/thumbnails", "make_thumbnails", False),
    Case("/sleep", "nap", True),
    Case("/http", "fetch_rates", True),
    Case("/sqlite", "count_rows", False),
    Case("/regex", "matches", False),
    Case("/python", "score", False),
    Case("/subprocess", "convert", True),
    Case("/future", "wait_for_pool", True),
    Case("/lock", "take_lock", True),
    Case("/queue", "wait_for_queue", True),
    Case("/join", "wait_for_thread", True),
    Case("/before", "load_user", True),
    Case("/teardown", "write_log", True),
    Case("/filter", "price", True),
    Case("/template", "render_template_string", True),
    Case("/lambda", "push", True),
    Case("/inline", "inline", True),
    Case("/loop-in-view", "nap", True),
    Case("/method-view", "build_report", True),
    Case("/blueprint/export", "export_rows", True),
    Case("/decorated", "charge", True),
    Case("/recursion", "walk", True),
    Case("/with", "Lease.__enter__", True),
    Case("/method", "Mailer.deliver", True),
    Case("/async-waits", "fetch_async", True),
    Case("/async-blocks", "blocks_loop", True),
    Case("/async-computes", "score", False),
    Case("/stream", "make_row", True),
    Case("/nested", "nap", True),
    Case("/partial", "nap", True),
)


# --- what blocks -------------------------------------------------------------------------------


class Services:
    """The slow servers that the routes talk to."""

    smtp_port = 0
    http_port = 0


@contextmanager
def services() -> Iterator[None]:
    """Run a slow mail server and a slow web server on loopback."""

    def slow(environ: Any, start_response: Any) -> list[bytes]:
        time.sleep(SECONDS)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    http = make_server("127.0.0.1", 0, slow, threaded=True, request_handler=_Silent)
    Services.http_port = http.port
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        with MailServer(Pace(0, 0, (SECONDS, SECONDS))) as mail:
            Services.smtp_port = mail.port
            yield
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def send_mail(address: str) -> None:
    with smtplib.SMTP("127.0.0.1", Services.smtp_port, local_hostname="localhost") as smtp:
        smtp.sendmail("shop@example.org", [address], "Subject: Hello\r\n\r\nHello\r\n")


def thumbnail(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.resize((300, 200), Image.Resampling.LANCZOS).save(out, "PNG")
    return out.getvalue()


def make_thumbnails() -> list[bytes]:
    picture = Image.effect_noise((900, 600), 80)
    end = time.thread_time() + SECONDS
    made = []
    while time.thread_time() < end:
        made.append(thumbnail(picture))
    return made


def nap(seconds: float = SECONDS) -> None:
    time.sleep(seconds)


def fetch_rates() -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{Services.http_port}/") as answer:
        return bytes(answer.read())


def count_rows() -> int:
    database = sqlite3.connect(":memory:")
    found = 0
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
        found += database.execute(f"{sql} SELECT count(*) FROM n").fetchone()[0]
    database.close()
    return found


def matches(letters: int) -> bool:
    return re.match(r"(a+)+$", "a" * letters + "b") is not None


def score(seconds: float = SECONDS) -> int:
    end = time.thread_time() + seconds
    total = 0
    while time.thread_time() < end:
        for number in range(500):
            total += number * number
    return total


def convert() -> None:
    subprocess.run(["sleep", str(SECONDS)], check=True)


def wait_for_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, SECONDS).result()


def take_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    timer = threading.Timer(SECONDS, lock.release)
    timer.start()
    with lock:
        timer.join()


def wait_for_queue() -> str:
    line: queue.Queue[str] = queue.Queue()
    timer = threading.Timer(SECONDS, line.put, ["done"])
    timer.start()
    answer = line.get()
    timer.join()
    return answer


def wait_for_thread() -> None:
    worker = threading.Thread(target=time.sleep, args=[SECONDS])
    worker.start()
    worker.join()


def push() -> bool:
    time.sleep(SECONDS)
    return True


def with_retry(action: Callable[[], bool]) -> bool:
    return any(action() for _ in range(3))


def build_report() -> str:
    time.sleep(SECONDS)
    return "report"


def export_rows() -> str:
    time.sleep(SECONDS)
    return "rows"


def logged(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> None:
        current_app.logger.debug("calls %s", function.__name__)
        function(*args)

    return wrapper


@logged
def charge(amount: int) -> None:
    time.sleep(SECONDS)


def walk(depth: int) -> None:
    if depth:
        walk(depth - 1)
    else:
        time.sleep(SECONDS)


class Lease:
    def __enter__(self) -> Lease:
        time.sleep(SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class Mailer:
    def deliver(self) -> None:
        time.sleep(SECONDS)


async def fetch_async() -> str:
    await asyncio.sleep(SECONDS)
    return "fetched"


async def blocks_loop() -> None:
    time.sleep(SECONDS)


def make_row(number: int) -> str:
    time.sleep(SECONDS)
    return f"row {number}\n"


def price(value: float) -> str:
    time.sleep(SECONDS)
    return f"{value:.2f}"


# --- the app -----------------------------------------------------------------------------------


def make_app(settings: ProfilerSettings) -> Flask:
    """The app with all routes of CASES."""
    app = Flask(__name__)
    install(app, settings)
    _add_calls(app)
    _add_hooks(app)
    _add_kinds_of_view(app)
    _add_async(app)
    return app


def _add_calls(app: Flask) -> None:
    """Views that call one function."""
    letters = _letters()
    calls: dict[str, Callable[[], object]] = {
        "smtp": lambda: send_mail("jo@example.org"),
        "thumbnails": make_thumbnails,
        "sleep": nap,
        "http": fetch_rates,
        "sqlite": count_rows,
        "regex": lambda: matches(letters),
        "python": score,
        "subprocess": convert,
        "future": wait_for_pool,
        "lock": take_lock,
        "queue": wait_for_queue,
        "join": wait_for_thread,
        "recursion": lambda: walk(30),
        "decorated": lambda: charge(7),
    }
    for name, call in calls.items():

        def view(call: Callable[[], object] = call) -> str:
            call()
            return "done"

        app.add_url_rule(f"/{name}", name, view)


def _letters() -> int:
    """How long a text has to be for the regular expression to block long enough, also when the
    machine is quicker then than now."""
    letters = 16
    while min(_seconds_for(letters) for _ in range(3)) < 1.5 * SECONDS:  # each letter doubles it
        letters += 1
    return letters


def _seconds_for(letters: int) -> float:
    began = time.thread_time()
    matches(letters)
    return time.thread_time() - began


def _add_hooks(app: Flask) -> None:
    @app.before_request
    def load_user() -> None:
        if request.path == "/before":
            time.sleep(SECONDS)

    @app.teardown_request
    def write_log(error: BaseException | None) -> None:
        if request.path == "/teardown":
            time.sleep(SECONDS)

    app.add_url_rule("/before", "before", lambda: "done")
    app.add_url_rule("/teardown", "teardown", lambda: "done")
    app.add_template_filter(price)

    @app.get("/filter")
    def filter_view() -> str:
        return render_template_string("<p>\n{{ 7|price }}\n</p>")

    @app.get("/template")
    def template_view() -> str:
        def rest(number: int) -> int:
            time.sleep(SECONDS / 13)
            return number

        text = "<ul>\n{% for n in range(13) %}<li>{{ rest(n) }}</li>\n{% endfor %}</ul>"
        return render_template_string(text, rest=rest)


def _add_kinds_of_view(app: Flask) -> None:
    class Reports(MethodView):
        def get(self) -> str:
            return build_report()

    app.add_url_rule("/method-view", view_func=Reports.as_view("reports"))
    blueprint = Blueprint("shop", __name__, url_prefix="/blueprint")
    blueprint.add_url_rule("/export", "export", lambda: export_rows())
    app.register_blueprint(blueprint)
    app.add_url_rule("/partial", "partial", functools.partial(_view_with_argument, SECONDS))

    @app.get("/lambda")
    def lambda_view() -> str:
        return str(with_retry(lambda: push()))

    @app.get("/inline")
    def inline() -> str:
        time.sleep(SECONDS)
        return "done"

    @app.get("/loop-in-view")
    def loop_in_view() -> str:
        for _ in range(13):
            nap(SECONDS / 13)
        return "done"

    @app.get("/with")
    def with_view() -> str:
        with Lease():
            return "done"

    @app.get("/method")
    def method_view() -> str:
        Mailer().deliver()
        return "done"

    @app.get("/stream")
    def stream() -> Iterator[str]:
        yield make_row(1)

    @app.get("/nested")
    def nested() -> str:
        return current_app.test_client().get("/sleep").text


def _view_with_argument(seconds: float) -> str:
    nap(seconds)
    return "done"


def _add_async(app: Flask) -> None:
    @app.get("/async-waits")
    async def async_waits() -> str:
        return await fetch_async()

    @app.get("/async-blocks")
    async def async_blocks() -> str:
        await blocks_loop()
        return "done"

    @app.get("/async-computes")
    async def async_computes() -> str:
        return str(score())


# --- random mixes ------------------------------------------------------------------------------


@dataclass
class Mix:
    """A view that calls some functions; `true` gets the seconds that each really took."""

    steps: list[tuple[Callable[[float], None], float]]
    true: dict[str, float] = field(default_factory=dict)

    def run(self) -> str:
        """The view."""
        self.true.clear()
        _running.mix = self
        for step, seconds in self.steps:
            step(seconds)
        return "done"


class _Running(threading.local):
    mix: Mix


_running = _Running()


@contextmanager
def to_be_named(function: str) -> Iterator[None]:
    """Keep how long this call of a function takes."""
    began = time.perf_counter()
    yield
    true = _running.mix.true
    true[function] = true.get(function, 0.0) + time.perf_counter() - began


def wait_long(seconds: float) -> None:
    with to_be_named("wait_long"):
        time.sleep(seconds)


def compute_long(seconds: float) -> None:
    with to_be_named("compute_long"):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            sum(range(200))


def wait_often(seconds: float) -> None:
    """A loop of calls: it is the loop that ought to be moved."""
    with to_be_named("wait_often"):
        for _ in range(8):
            wait_shortly(seconds / 8)


def wait_shortly(seconds: float) -> None:
    time.sleep(seconds)


def compute_often(seconds: float) -> None:
    """A loop of a great many calls."""
    with to_be_named("compute_often"):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            add_up()


def add_up() -> int:
    return sum(number * number for number in range(2000))


def wait_deep(seconds: float) -> None:
    """Does nothing itself: what it calls is named."""
    wait_deeper(seconds)


def wait_deeper(seconds: float) -> None:
    wait_inside(seconds)


def wait_inside(seconds: float) -> None:
    with to_be_named("wait_inside"):
        threading.Event().wait(seconds)


def split(seconds: float) -> None:
    """Two calls of which neither stands for it."""
    with to_be_named("split"):
        wait_shortly(seconds * 0.4)
        compute_shortly(seconds * 0.6)


def compute_shortly(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(200))


_STEPS: tuple[Callable[[float], None], ...] = (
    wait_long,
    compute_long,
    wait_often,
    compute_often,
    wait_deep,
    split,
)


def random_mixes(count: int, seed: int) -> list[Mix]:
    """Mixes of 2 to 5 steps of 20 to 300 ms, at least 210 ms together."""
    chosen = random.Random(seed)
    mixes: list[Mix] = []
    while len(mixes) < count:
        steps = chosen.choices(_STEPS, k=chosen.randint(2, 5))
        timed = [(step, chosen.uniform(0.02, 0.3)) for step in steps]
        if sum(seconds for _, seconds in timed) > 0.21:
            mixes.append(Mix(timed))
    return mixes


def add_mixes(app: Flask, mixes: list[Mix]) -> None:
    """Add a route /mix/<number> for each."""
    for number, mix in enumerate(mixes):
        app.add_url_rule(f"/mix/{number}", f"mix{number}", mix.run)


class Found:
    """Collects what the profiler reports."""

    def __init__(self) -> None:
        self._reports: queue.SimpleQueue[SpotReport] = queue.SimpleQueue()

    def settings(self, **changes: Any) -> ProfilerSettings:
        """Settings that report to this, whatever is slower than 200 ms."""
        return ProfilerSettings(False, True, on_report=self._reports.put, **changes)

    def next(self, timeout: float = 10.0) -> SpotReport:
        """The next report; raises queue.Empty when none comes."""
        return self._reports.get(timeout=timeout)


def shares_of(found: SpotReport) -> dict[str, float]:
    """The share of each function that was named."""
    return {blocker.function: blocker.share for blocker in found.blockers}
