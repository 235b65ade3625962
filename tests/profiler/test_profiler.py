"""The sampler around real requests: what it reports, keeps, and leaves alone."""

from __future__ import annotations

import functools
import queue
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import CodeType
from typing import Any

import apsw
import pytest
from flask import Flask, Response, render_template, render_template_string, send_file
from werkzeug.wsgi import FileWrapper

from blocking_app import Found
from flask_offload import Offload
from flask_offload.profiler import sampler as sampler_module
from flask_offload.profiler.install import ProfilerSettings, install
from flask_offload.profiler.middleware import sampler
from flask_offload.profiler.stacks import UserCode
from flask_offload.profiler.store import Batch, SpotRow, route_rows, spot_rows, write
from flask_offload.profiler.thread_clock import (
    InterpreterWait,
    cpu_seconds,
    native_id,
    queued_seconds,
)
from support import running, wait_until

SLOW = 0.25


def nap() -> None:
    time.sleep(SLOW)


def app_with(settings: ProfilerSettings, view: Callable[[], Any] = nap, path: str = "/") -> Flask:
    app = Flask(__name__)

    def index() -> Any:
        return view() or "done"

    app.add_url_rule(path, "index", index)
    install(app, settings)
    return app


def get(app: Flask, path: str = "/") -> bytes:
    with app.test_client().get(path) as answer:
        return answer.get_data()


@pytest.fixture
def found() -> Found:
    return Found()


def nothing_more(found: Found) -> bool:
    """Whether nothing is left to report; a later request shows that the sampler had its turn."""
    marker = Found()
    get(app_with(marker.settings()))
    marker.next()
    try:
        found.next(timeout=0)
    except queue.Empty:
        return True
    return False


# --- the sentence ------------------------------------------------------------------------------

SHOP = """
import smtplib
from flask import Flask
from mail import send_welcome
from flask_offload.profiler.install import ProfilerSettings, install

app = Flask(__name__)

@app.post("/signup")
def signup():
    send_welcome("jo@example.org")
    return "welcome"
"""

MAIL = """
import smtplib

def send_welcome(address):
    with smtplib.SMTP("127.0.0.1", PORT, local_hostname="localhost") as smtp:
        smtp.sendmail("shop@example.org", [address], "Subject: Welcome")
"""


def test_the_sentence_names_route_time_function_chain_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Found
) -> None:
    from flask_offload_lab.mailserver import MailServer, Pace

    (tmp_path / "shop.py").write_text(SHOP.strip() + "\n")
    (tmp_path / "mail.py").write_text(MAIL.strip() + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mail  # type: ignore[import-not-found]
    import shop  # type: ignore[import-not-found]

    install(shop.app, found.settings())
    with MailServer(Pace(0, 0, (SLOW, SLOW))) as server:
        mail.PORT = server.port
        shop.app.test_client().post("/signup").close()
    report = found.next()
    milliseconds = f"{report.seconds * 1000:,.0f}"
    share = f"{report.blockers[0].share:.0%}"  # the rest is what a busy machine adds
    assert report.sentence == (
        f"POST /signup blocked {milliseconds} ms: {share} waiting in smtplib.SMTP.sendmail"
        " <- mail.py:5 send_welcome <- shop.py:10 signup. Its value is not used: decorate"
        " send_welcome with @offload.task and call send_welcome.enqueue(...)"
    )
    for module in ("mail", "shop"):
        del sys.modules[module]


def draw() -> None:
    end = time.monotonic() + SLOW / 2
    while time.monotonic() < end:
        pass


def nap_and_draw() -> None:
    nap()
    draw()


def test_a_function_with_several_things_to_do_is_not_said_to_do_one(found: Found) -> None:
    get(app_with(found.settings(), lambda: nap_and_draw()))
    sentence = found.next().sentence
    assert "% in nap_and_draw, most of it waiting in nap <- test_profiler.py:" in sentence


def rates() -> int:
    time.sleep(SLOW)
    return 3


def update_prices() -> int:
    new = rates()
    return new * 2


def show_rates() -> str:
    return str(rates())


def sentence_of(view: Callable[[], Any], **settings: Any) -> str:
    found = Found()
    get(app_with(found.settings(**settings), view))
    return found.next().sentence.partition(". ")[2]


def test_an_outer_function_is_advised_when_only_its_value_is_not_used() -> None:
    def view() -> None:
        update_prices()

    assert sentence_of(view) == (
        "Its value is used by update_prices, whose own value is not used: decorate update_prices"
        " with @offload.task and call update_prices.enqueue(...)"
    )


def test_a_value_that_is_used_needs_another_answer(found: Found) -> None:
    app = Flask(__name__)
    app.add_url_rule("/", "rates", lambda: show_rates())
    install(app, found.settings())
    get(app)
    assert found.next().sentence.endswith(
        "Its value is used: decorate rates with @offload.task and answer with"
        " offload.accepted(rates.enqueue(...)), or decorate the view with @offload.respond_async"
    )


def test_a_task_that_is_called_inline_only_has_to_be_enqueued() -> None:
    def view() -> None:
        nap()

    tasks: set[CodeType] = {nap.__code__}
    assert sentence_of(view, is_task=tasks.__contains__) == (
        "It is a task, called inline, and its value is not used: call nap.enqueue(...)"
    )


def offload_app(found: Found, folder: Path, **config: object) -> tuple[Flask, Any]:
    """An app with a real Offload, and a declared task that naps."""
    app = Flask(__name__, instance_path=str(folder))
    app.config.update(OFFLOAD_WORKER="off", OFFLOAD_SPOT=False, OFFLOAD_SERVER_TIMING=False)
    app.config.update(config)
    offload = Offload(app)
    install(app, found.settings())
    return app, offload.task(nap)


def test_a_declared_task_is_known_by_the_object_that_calls_it(found: Found, tmp_path: Path) -> None:
    app, task = offload_app(found, tmp_path)

    @app.get("/called")
    def called() -> str:
        task()
        return "done"

    get(app, "/called")
    assert found.next().sentence.endswith(
        "nap <- test_profiler.py:" + str(called.__code__.co_firstlineno + 2) + " called."
        " It is a task, called inline, and its value is not used: call nap.enqueue(...)"
    )


def test_an_enqueue_that_has_to_wait_is_not_to_be_moved(found: Found, tmp_path: Path) -> None:
    app, task = offload_app(found, tmp_path)
    app.add_url_rule("/enqueued", "enqueued", lambda: task.enqueue().id)
    state = app.extensions["offload"].state_of(app)
    with app.app_context():
        task.enqueue()  # makes the database
    other = apsw.Connection(str(state.database))
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(SLOW * 2, other.close)
    release.start()
    get(app, "/enqueued")
    release.join()
    state.engine.close()
    sentence = found.next().sentence
    assert "in Flask-Offload's enqueue <- test_profiler.py:" in sentence
    assert "It waits for the job database, not for the job" in sentence
    assert "@offload.task" not in sentence


def test_a_job_of_the_inline_engine_is_said_to_be_one(found: Found, tmp_path: Path) -> None:
    app, task = offload_app(found, tmp_path, OFFLOAD_ENGINE="inline")
    app.add_url_rule("/enqueued", "enqueued", lambda: task.enqueue().id)
    get(app, "/enqueued")
    report = found.next()
    assert report.blockers[0].function == "nap"
    assert 'OFFLOAD_ENGINE = "inline" runs it where it is enqueued' in report.sentence


def test_a_long_chain_is_shortened_in_the_middle(found: Found) -> None:
    code = "def f0():\n    nap()\n" + "".join(
        f"def f{number}():\n    f{number - 1}()\n" for number in range(1, 12)
    )
    module: dict[str, Any] = {"nap": nap}
    exec(compile(code, str(Path(__file__).with_name("chain.py")), "exec"), module)
    get(app_with(found.settings(), module["f11"]))
    sentence = found.next().sentence
    assert sentence.count(" <- ") == 6
    assert "f0 <- " in sentence
    assert " <- ... <- " in sentence
    assert " index. Its value " in sentence


def test_each_part_has_its_own_line_of_the_view(found: Found) -> None:
    """Not the line at which the view was seen most often."""

    def view() -> str:
        nap()
        draw()
        return "done"

    app = Flask(__name__)
    app.add_url_rule("/", "view", view)
    install(app, found.settings())
    get(app)
    told = [blocker.what for blocker in found.next().blockers]
    line = view.__code__.co_firstlineno
    for part in (
        f"nap <- test_profiler.py:{line + 1} view",
        f"draw <- test_profiler.py:{line + 2} view",
    ):
        assert any(what.endswith(f" {part}") for what in told), told


def test_a_template_is_named_with_its_own_line(found: Found, tmp_path: Path) -> None:
    """Not with that of the code that it was compiled to."""
    (tmp_path / "list.html").write_text("<ul>\n<li>one</li>\n<li>{{ nap() }}</li>\n</ul>\n")
    app = Flask(__name__, template_folder=str(tmp_path))
    text = "<p>\n{% include 'list.html' %}"
    app.add_url_rule("/file", "file", lambda: render_template("list.html", nap=slowly()))
    app.add_url_rule("/text", "text", lambda: render_template_string(text, nap=slowly()))
    install(app, found.settings())
    for path in ("/file", "/text"):
        get(app, path)
        first = found.next().blockers[0]
        assert (first.function, first.line) == ("list.html", 3)
        assert first.file == str(tmp_path / "list.html")
        assert "list.html:3 list.html" in first.what


def slowly() -> Callable[[], None]:
    """A function that is none of the user's, for a template to call."""
    return functools.partial(time.sleep, SLOW)


def test_what_only_an_extension_does_is_said_to_be_so(found: Found) -> None:
    from flask.sessions import SecureCookieSessionInterface

    app = Flask(__name__)
    interface = SecureCookieSessionInterface()
    app.session_interface = interface
    code = "import time\ndef open_session(app, request):\n    time.sleep(0.25)\n"
    library = Path(pytest.__file__).with_name("session_library.py")
    module: dict[str, Any] = {"__name__": "session_library"}
    exec(compile(code, str(library), "exec"), module)
    interface.open_session = module["open_session"]  # type: ignore[method-assign]
    app.add_url_rule("/", "index", lambda: "done")
    install(app, found.settings())
    get(app)
    assert "in session_library.open_session, which no code of this app has called" in (
        found.next().sentence
    )


def test_the_app_s_own_folder_is_the_user_s_even_among_libraries() -> None:
    """As when a shop is installed from a wheel. But an app in a lone module of site-packages must
    not make all other packages user code."""
    libraries = Path(sysconfig.get_path("purelib"))
    installed = UserCode(str(libraries / "shop"))
    assert str(libraries / "shop" / "views.py") in installed
    for other in ("shopping/views.py", "flask/app.py"):
        assert str(libraries / other) not in installed
    assert str(libraries / "flask" / "app.py") not in UserCode(str(libraries))
    assert threading.__file__ not in installed
    assert __file__ in UserCode()


# --- which requests ----------------------------------------------------------------------------


def test_only_requests_above_the_threshold_are_reported(found: Found) -> None:
    get(app_with(found.settings(spot_above_ms=10_000)))
    get(app_with(found.settings(), lambda: "at once"))
    assert nothing_more(found)


def test_off_means_off(found: Found) -> None:
    settings = ProfilerSettings(False, False, on_report=found.settings().on_report)
    get(app_with(settings))
    assert nothing_more(found)


@pytest.mark.parametrize(
    ("config", "is_profiled"), [({}, False), ({"TESTING": True}, True), ({"DEBUG": True}, True)]
)
def test_by_default_only_in_debug_and_testing(
    found: Found, config: dict[str, bool], is_profiled: bool
) -> None:
    app = app_with(ProfilerSettings(False, on_report=found.settings().on_report))
    app.config.update(config)  # after init_app, as Flask's own documentation does
    get(app)
    assert nothing_more(found) is not is_profiled


def test_a_fraction_of_requests_is_profiled(tmp_path: Path) -> None:
    store = tmp_path / "evidence.sqlite3"
    profiled: list[bool] = []
    app = app_with(
        ProfilerSettings(False, 0.25, store_path=store),
        lambda: profiled.append(threading.get_ident() in sampler.active),
    )
    for _ in range(400):
        get(app)
    assert 20 < sum(profiled) < 180  # 100 on average; the chance of missing these bounds is 1e-15
    wait_until(
        lambda: [row.count for row in route_rows(store)] == [sum(profiled)],
        message=lambda: f"{sum(profiled)} requests in {route_rows(store)}",
    )


def test_two_apps_report_to_their_own(found: Found) -> None:
    other = Found()
    get(app_with(found.settings(), path="/one"), "/one")
    get(app_with(other.settings(), path="/two"), "/two")
    assert (found.next().route, other.next().route) == ("GET /one", "GET /two")


def test_requests_in_several_threads_are_told_apart(found: Found) -> None:
    app = Flask(__name__)

    def busy() -> None:
        time.sleep(SLOW * 1.5)

    app.add_url_rule("/nap", "nap", lambda: str(nap()))  # type: ignore[func-returns-value]
    app.add_url_rule("/busy", "busy", lambda: str(busy()))  # type: ignore[func-returns-value]
    install(app, found.settings())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: get(app, path), ["/nap", "/busy"] * 4))
    reports = [found.next() for _ in range(8)]
    assert {(report.route, report.blockers[0].function) for report in reports} == {
        ("GET /nap", "nap"),
        ("GET /busy", "busy"),
    }


def test_what_a_fast_request_leaves_to_the_next_is_not_mixed_with_it(tmp_path: Path) -> None:
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    store = tmp_path / "evidence.sqlite3"
    settings = ProfilerSettings(
        False, True, 200.0, store_path=store, on_report=lambda report: found.put(report.route)
    )
    app = Flask(__name__)
    app.add_url_rule("/fast", "fast", lambda: "fast")
    app.add_url_rule("/sampled", "sampled", lambda: (time.sleep(0.03), "sampled")[1])  # type: ignore[func-returns-value]
    app.add_url_rule("/slow", "slow", lambda: (nap(), "slow")[1])  # type: ignore[func-returns-value]
    install(app, settings)
    paths = (["/fast"] * 9 + ["/sampled"] + ["/fast"] * 9 + ["/none"]) * 5 + ["/fast", "/slow"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda path: get(app, path)[:4], paths)) == [
            b"<!do" if path == "/none" else path[1:5].encode() for path in paths
        ]
    expected = {"GET /fast": 91, "GET /sampled": 5, "GET /slow": 1, "GET (no route)": 5}
    wait_until(lambda: {row.route: row.count for row in route_rows(store)} == expected, timeout=30)
    while found.get(timeout=10) != "GET /slow":  # on a busy machine others are slow, too
        pass


def test_a_view_that_raises_is_reported_too(found: Found) -> None:
    def view() -> None:
        nap()
        raise ZeroDivisionError

    app = app_with(found.settings(), view)
    app.testing = True
    with pytest.raises(ZeroDivisionError):
        get(app)
    assert found.next().route == "GET /"


# --- bodies ------------------------------------------------------------------------------------


def test_a_stream_counts_only_while_it_works(found: Found) -> None:
    """Not while the client takes its time to read."""

    def rows() -> Iterator[str]:
        for _ in range(2):
            nap()
            yield "row\n"

    app = app_with(found.settings(), lambda: Response(rows()))
    with app.test_client().get("/", buffered=False) as answer:
        chunks = iter(answer.response)
        next(chunks)
        time.sleep(SLOW * 2)
        assert list(chunks) == [b"row\n"]
    report = found.next()
    assert report.blockers[0].function == "nap"
    assert SLOW * 2 <= report.seconds < SLOW * 4


def test_a_stream_with_a_known_length_is_sampled_too(found: Found) -> None:
    def view() -> Response:
        def chunks() -> Iterator[bytes]:
            for _ in range(3):
                time.sleep(0.1)
                yield b"x"

        return Response(chunks(), headers={"Content-Length": "3"})

    assert get(app_with(found.settings(), view)) == b"xxx"
    report = found.next()
    assert report.blockers[0].function == "chunks"
    assert "while the response streams" in report.sentence


def test_a_stream_that_is_closed_early_is_reported_once(found: Found) -> None:
    def rows() -> Iterator[str]:
        while True:
            nap()
            yield "row\n"

    app = app_with(found.settings(), lambda: Response(rows()))
    with app.test_client().get("/", buffered=False) as answer:
        next(iter(answer.response))
    assert found.next().blockers[0].function == "nap"
    assert nothing_more(found)


def test_event_streams_are_meant_to_last(found: Found) -> None:
    def events() -> Iterator[str]:
        nap()
        yield "data: 1\n\n"

    view = app_with(found.settings(), lambda: Response(events(), mimetype="text/event-stream"))
    assert get(view) == b"data: 1\n\n"
    assert nothing_more(found)


def test_bodies_that_the_server_sends_in_its_own_way_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("content")
    app = app_with(ProfilerSettings(False, True), lambda: send_file(tmp_path / "file.txt"))
    environ = app.test_request_context("/").request.environ
    environ["wsgi.file_wrapper"] = FileWrapper
    body = app.wsgi_app(environ, lambda status, headers, exc_info=None: lambda data: None)
    assert type(body) is FileWrapper
    body.close()


# --- what it must not change -------------------------------------------------------------------


@pytest.mark.skipif(sys.gettrace() is not None, reason="not promised: while somebody traces")
def test_looking_keeps_no_locals_alive() -> None:
    class Resource:
        def __del__(self) -> None:
            closed_in.append(threading.current_thread())

    closed_in: list[threading.Thread] = []
    marks: list[bool] = []

    def holds() -> None:
        resource = Resource()
        time.sleep(0.1)  # it is looked at several times
        marks.append(sys._getframe().f_trace is not None)
        assert resource

    def view() -> None:
        for _ in range(3):
            holds()
            assert closed_in.pop() is threading.current_thread()

    get(app_with(ProfilerSettings(False, True), view))
    assert marks == [True] * 3  # or else this test has shown nothing


def test_a_traced_frame_keeps_its_trace_function(found: Found) -> None:
    """Debuggers and coverage set f_trace themselves."""
    lines: list[int] = []

    def view() -> None:
        sys.settrace(trace)
        try:
            traced()
        finally:
            sys.settrace(before)

    def traced() -> None:
        time.sleep(SLOW)
        sum(range(3))

    def trace(frame: Any, event: str, arg: object) -> Any:
        if frame.f_code is not traced.__code__:
            return None
        if event == "line":
            lines.append(frame.f_lineno)
        return trace

    before = sys.gettrace()
    get(app_with(found.settings(), view))
    assert len(lines) == 2
    assert found.next().blockers[0].function == "traced"


def test_a_profiled_app_answers_as_before(tmp_path: Path) -> None:
    """Status, headers and body; also when start_response is called twice."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "odd")])
        try:
            raise ValueError
        except ValueError:
            start_response("500 OOPS", [("X-Test", "1")], sys.exc_info())
        return [b"oops"]

    app = Flask(__name__)
    app.wsgi_app = application  # type: ignore[method-assign]
    settings = ProfilerSettings(True, True, store_path=tmp_path / "evidence.sqlite3")
    install(app, settings)
    started: list[tuple[Any, ...]] = []

    def start_response(*args: Any) -> Callable[[bytes], object]:
        started.append(args)
        return lambda data: None

    environ = app.test_request_context("/").request.environ
    assert app.wsgi_app(environ, start_response) == [b"oops"]
    assert [args[0] for args in started] == ["200 OK", "500 OOPS"]
    assert ("X-Test", "1") in started[1][1]
    assert started[1][2][0] is ValueError


# --- processes and threads ---------------------------------------------------------------------

PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from flask import Flask
from flask_offload.profiler.install import ProfilerSettings, install

def nap():
    time.sleep(0.25)

def make(store):
    app = Flask(__name__)
    app.add_url_rule("/", "index", lambda: nap() or "done")
    install(app, ProfilerSettings(False, True, store_path=store))
    return app

def samplers():
    return [each.name for each in threading.enumerate() if "sampler" in each.name]
"""


def run_program(tmp_path: Path, text: str) -> str:
    """Run it in a process of its own; what it printed."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + text)
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "evidence.sqlite3")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.processes
def test_there_is_no_thread_before_the_first_request_and_one_for_all_apps(tmp_path: Path) -> None:
    printed = run_program(
        tmp_path,
        """
one, two = make(None), make(None)
print(len(samplers()))
one.test_client().get("/")
two.test_client().get("/")
print(len(samplers()))
""",
    )
    assert printed.split()[:2] == ["0", "1"]


@pytest.mark.processes
def test_the_end_of_the_process_is_not_held_up_and_loses_nothing(tmp_path: Path) -> None:
    run_program(
        tmp_path,
        """
make(Path(sys.argv[1])).test_client().get("/")
""",
    )
    (row,) = spot_rows(tmp_path / "evidence.sqlite3")
    assert (row.route, row.count, row.function) == ("GET /", 1, "nap")


@pytest.mark.processes
def test_a_forked_process_has_a_sampler_of_its_own(tmp_path: Path) -> None:
    printed = run_program(
        tmp_path,
        """
app = make(Path(sys.argv[1]))
app.test_client().get("/")
time.sleep(0.1)
child = os.fork()
if not child:
    print("child", samplers())
    app.test_client().get("/")
    print("child", samplers(), flush=True)
    sys.exit()
print(os.waitpid(child, 0)[1], flush=True)
""",
    )
    assert "child []" in printed
    assert "child ['flask-offload-sampler']" in printed
    (row,) = spot_rows(tmp_path / "evidence.sqlite3")
    assert row.count == 2  # what the parent had counted was not written by both


@pytest.mark.processes
def test_under_gevent_it_says_that_it_does_not_work(tmp_path: Path) -> None:
    path = tmp_path / "patched.py"
    path.write_text(
        "from gevent import monkey\nmonkey.patch_all()\n"
        + PROGRAM
        + """
app = make(None)
for _ in range(3):
    assert app.test_client().get("/").text == "done"
print(samplers())
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr.count("requests are not profiled: gevent") == 1


@pytest.mark.processes
@pytest.mark.parametrize("options", [["--threads", "4"], []], ids=["threads", "sync"])
def test_it_works_in_gunicorn(tmp_path: Path, options: list[str]) -> None:
    store = tmp_path / "evidence.sqlite3"
    (tmp_path / "shop.py").write_text(
        PROGRAM + f"\napp = make(Path({str(store)!r}))\napp.logger.warning('ready')\n"
    )
    from support import free_port, http_get, listening

    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2"]
    with running(
        [*argv, "--no-control-socket", *options, "shop:app"],
        cwd=tmp_path,
        ready=lambda _: listening(port),
    ) as server:
        for _ in range(4):
            http_get(f"http://127.0.0.1:{port}/")
        wait_until(
            lambda: sum(row.count for row in spot_rows(store)) == 4,
            timeout=15,
            message=lambda: f"4 requests in {spot_rows(store)}; {server.output()}",
        )
        (row,) = spot_rows(store)
        server.stop()
    assert (row.route, row.function, row.waiting) == ("GET /", "nap", True)


def test_the_sampler_survives_an_error_of_its_own(
    found: Found, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()

    def sample(*args: object) -> None:
        broken.set()
        raise ZeroDivisionError

    monkeypatch.setattr(sampler_module, "_sample", sample)
    get(app_with(found.settings()))
    assert broken.is_set()
    monkeypatch.undo()
    found.next()
    get(app_with(found.settings()))
    assert found.next().blockers[0].function == "nap"
    assert "it continues" in caplog.text


def test_a_sampler_that_was_woken_stays_up_though_the_request_is_over() -> None:
    """To be woken by each of thousands of fast requests costs a server a tenth of its speed."""
    own = sampler_module.Sampler(())
    ring = threading.Timer(0.05, own._wake_up.set)
    ring.start()
    own._sleep()
    ring.join()
    with closing(InterpreterWait()) as waited:
        assert own._round(time.perf_counter(), waited)  # False: sleep again at once


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(50))


def first_part(seconds: float) -> None:
    compute(seconds)


def second_part(seconds: float) -> None:
    compute(seconds)


@pytest.mark.processes
def test_a_request_right_after_the_first_report_of_a_process_is_seen(tmp_path: Path) -> None:
    """The first report of a process takes a tenth of a second, in which sampling goes on."""
    printed = run_program(
        tmp_path,
        """
from flask import Flask
app = Flask(__name__)
reports = []
install(app, ProfilerSettings(False, True, 80, on_report=reports.append))
def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(50))
def first(): compute(0.1)
def second(): compute(0.05)
app.add_url_rule("/first", "first", lambda: nap() or "done")
app.add_url_rule("/next", "next", lambda: first() or second() or "done")
client = app.test_client()
client.get("/first")
client.get("/next")
deadline = time.monotonic() + 10
while len(reports) < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
one, two = reports
print(one.route, one.blockers[0].function)
print(two.route, two.samples >= 8, two.sentence)
""",
    )
    assert "GET /first nap\nGET /next True" in printed
    assert "compute, called by first (" in printed


def test_a_request_of_100_ms_that_computes_has_at_least_8_samples(found: Found) -> None:
    app = app_with(found.settings(spot_above_ms=80), lambda: compute(0.1))
    counts = []
    for _ in range(5):  # other programs may keep the sampler from running
        get(app)
        counts.append(found.next().samples)
    assert max(counts) >= 8, counts


def test_a_share_that_few_samples_stand_behind_is_said_to_be_rough(found: Found) -> None:
    app = app_with(found.settings(spot_above_ms=30), lambda: time.sleep(0.035))
    for _ in range(5):
        get(app)
        report = found.next()
        if report.samples:
            break
    assert report.samples < 8
    assert report.blockers[0].share < 1
    assert f" ({report.samples} sample" in report.sentence
    assert "about " in report.sentence
    assert "100%" not in report.sentence


def test_made_up_methods_are_one_route(found: Found) -> None:
    app = app_with(found.settings())
    app.before_request(nap)
    for method in ("FOO", "BAR"):
        app.test_client().open("/", method=method).close()
        assert found.next().route == "OTHER (no route)"


# --- the log and the store ---------------------------------------------------------------------


def sentences(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "blocked" in each.getMessage()]


def test_in_production_a_blocker_is_logged_once_a_minute(
    found: Found, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with(found.settings())
    for _ in range(3):
        get(app)
        found.next()
    wait_until(lambda: nothing_more(found))
    assert len([text for text in sentences(caplog) if text.startswith("GET / ")]) <= 2


def test_in_testing_each_report_is_logged(found: Found, caplog: pytest.LogCaptureFixture) -> None:
    app = app_with(found.settings(), path="/tested")
    app.testing = True
    for _ in range(3):
        get(app, "/tested")
    wait_until(
        lambda: len([text for text in sentences(caplog) if "/tested" in text]) == 3,
        message="three lines in the log",
    )


def test_a_report_is_soon_in_the_store_where_another_process_reads_it(tmp_path: Path) -> None:
    store = tmp_path / "instance" / "offload.sqlite3-evidence.sqlite3"
    app = app_with(ProfilerSettings(False, True, store_path=store))
    get(app)
    rows: list[SpotRow] = wait_until(lambda: spot_rows(store), message="a row")
    (row,) = rows
    assert (row.route, row.count, row.function, row.waiting) == ("GET /", 1, "nap", True)
    assert row.file == __file__
    assert row.line == nap.__code__.co_firstlineno + 1
    assert row.share > 0.9
    assert SLOW * 1000 * 0.98 <= row.p50_ms == row.p95_ms
    assert row.sentence.startswith("GET / blocked ")


def test_fast_requests_count_too(tmp_path: Path) -> None:
    store = tmp_path / "evidence.sqlite3"
    naps = iter([True] + [False] * 99)
    view = lambda: nap() if next(naps) else "at once"  # noqa: E731
    app = app_with(ProfilerSettings(False, True, store_path=store), view)
    for _ in range(100):
        get(app)
    row = wait_until(
        lambda: next((row for row in spot_rows(store) if row.count == 100), None),
        message="100 requests",
    )
    assert row is not None
    assert row.p50_ms < row.p95_ms * 2 < SLOW * 1000


def test_a_store_that_cannot_be_written_is_told_once_and_nothing_else_breaks(
    tmp_path: Path, found: Found, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "evidence.sqlite3"
    store.mkdir()
    app = app_with(found.settings(store_path=store))
    for _ in range(2):
        get(app)
        found.next()
    wait_until(lambda: "evidence can't be written" in caplog.text, message="a warning")
    assert caplog.text.count("evidence can't be written") == 1
    store.rmdir()
    get(app)
    wait_until(lambda: spot_rows(store), message="the store, once it can be written")


def test_while_another_process_locks_the_store_nothing_is_lost(
    tmp_path: Path, found: Found
) -> None:
    store = tmp_path / "evidence.sqlite3"
    write(store, Batch())
    lock = apsw.Connection(str(store))
    lock.execute("BEGIN EXCLUSIVE")
    app = app_with(found.settings(store_path=store))
    for _ in range(2):
        get(app)
        found.next()
        time.sleep(0.6)  # longer than until a report is written
    lock.close()
    get(app)
    wait_until(lambda: [row.count for row in spot_rows(store)] == [3], message="three requests")


# --- the processor's clock ---------------------------------------------------------------------


def test_the_clock_of_another_thread_distinguishes_computing_from_waiting() -> None:
    clocks: dict[str, float | None] = {}
    release, ready = threading.Event(), threading.Barrier(3)

    def computes() -> None:
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
        ready.wait()
        release.wait()

    def waits() -> None:
        time.sleep(0.1)
        ready.wait()
        release.wait()

    threads = {each.__name__: threading.Thread(target=each) for each in (computes, waits)}
    for thread in threads.values():
        thread.start()
    ready.wait()
    for name, thread in threads.items():
        clocks[name] = cpu_seconds(native_id(thread.ident or 0) or 0)
    release.set()
    for thread in threads.values():
        thread.join()
    computed, waited = clocks["computes"], clocks["waits"]
    assert computed is not None
    assert waited is not None
    assert computed >= 0.09
    assert waited < computed / 2


def test_the_time_that_a_thread_stands_in_line_is_read_from_the_system() -> None:
    """On a machine with more to compute than processors, computing would look like waiting."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    before = int(path.read_text().split()[1]) / 1e9
    queued = queued_seconds(threading.get_native_id())
    assert queued is not None
    assert before <= queued <= int(path.read_text().split()[1]) / 1e9


def test_the_clock_of_a_thread_that_has_ended_is_not_known() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    number = thread.native_id or 0
    thread.join()
    assert native_id(thread.ident or 0) is None
    wait_until(lambda: cpu_seconds(number) is None, message="the thread to be gone")
    assert queued_seconds(number) is None
