"""The gate: blocking routes fail, background routes pass, every time."""

from __future__ import annotations

import os
import queue
import re
import smtplib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import requests
import sqlalchemy
from flask import Flask, Response, request
from sqlalchemy.orm import Session

from flask_offload import Offload, OffloadError
from flask_offload.profiler import audit_events as audit
from flask_offload.profiler.gate import NoRequestProfiled
from flask_offload.profiler.install import ProfilerSettings, install
from flask_offload.testing import BlockingCall, no_blocking
from flask_offload_lab.mailserver import PROMPT, MailServer

LIMIT_MS = 100
SENDS_MAIL = r"^POST /sync sends mail .* send <- .* sync\."
NAPS = r"in time\.sleep <- test_gate\.py:\d+ nap <- "


def nap() -> None:
    time.sleep(0.25)


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost") as smtp:
        smtp.sendmail("shop@example.org", ["jo@example.org"], "Subject: Hello")


def request_from(view: Callable[[], Any], *, spot: bool = False) -> Callable[[], object]:
    """A function that makes a request to an app with this view."""
    app = Flask(__name__)

    def index() -> str:
        view()
        return "done"

    app.add_url_rule("/", "index", index, methods=["GET", "POST"])
    install(app, ProfilerSettings(False, spot))
    return lambda: app.test_client().post("/").close()


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer(PROMPT) as server:
        yield server


# --- 50 times out of 50 ------------------------------------------------------------------------


def test_the_sync_route_fails_and_the_background_route_passes_50_times(
    tmp_path: Path, mail: MailServer
) -> None:
    """Whatever the machine does: the mail server answers at once, so nothing here is slow."""
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(OFFLOAD_WORKER="off", TESTING=True, OFFLOAD_SPOT=False)
    offload = Offload(app)
    in_background = offload.task(send)

    @app.post("/sync")
    def sync() -> str:
        send(mail.port)
        return "sent"

    @app.post("/background")
    def background() -> str:
        return in_background.enqueue(mail.port).id

    client = app.test_client()
    for _ in range(50):
        with pytest.raises(BlockingCall, match=SENDS_MAIL), no_blocking():
            client.post("/sync").close()
        with no_blocking():
            client.post("/background").close()
    offload.state_of(app).engine.close()


def test_by_the_clock_the_sync_route_fails_and_a_quick_one_passes_50_times() -> None:
    slow, quick = request_from(nap), request_from(lambda: None)
    for _ in range(50):
        with no_blocking(max_ms=10_000):
            quick()
    for _ in range(5):
        with pytest.raises(BlockingCall, match=NAPS), no_blocking(max_ms=LIMIT_MS):
            slow()


# --- by the clock ------------------------------------------------------------------------------


def test_the_message_names_the_function_and_the_limit() -> None:
    with pytest.raises(BlockingCall) as caught, no_blocking(max_ms=LIMIT_MS):
        request_from(nap)()
    message = str(caught.value)
    assert message.startswith("POST / blocked 2")
    # the chain ends with the view: neither the test nor the gate around it belong to the request
    assert re.search(r" nap <- test_gate\.py:\d+ index\. ", message)
    assert message.endswith("call nap.enqueue(...) (at most 100 ms are allowed)")


def test_each_request_is_measured_for_itself() -> None:
    def shortly() -> None:
        time.sleep(0.01)

    brief = request_from(shortly)
    with no_blocking(max_ms=5_000):
        for _ in range(3):
            brief()
            time.sleep(0.01)


def test_a_request_that_is_shorter_than_what_is_spotted_is_still_measured() -> None:
    def briefly() -> None:
        time.sleep(0.02)

    with pytest.raises(BlockingCall, match=r"^POST / blocked \d+ ms"), no_blocking(max_ms=5):
        request_from(briefly)()


def test_what_is_spotted_anyway_is_gated_too() -> None:
    with pytest.raises(BlockingCall, match="nap"), no_blocking(max_ms=LIMIT_MS):
        request_from(nap, spot=True)()


# --- by events ---------------------------------------------------------------------------------


def listening_port() -> int:
    return Services.listener.getsockname()[1]  # type: ignore[no-any-return]


class Services:
    listener: socket.socket
    threads: ClassVar[list[threading.Thread]] = []


@pytest.fixture
def listener() -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as Services.listener:
        yield


def connect() -> None:
    socket.create_connection(("127.0.0.1", listening_port())).close()


def ask_http() -> None:
    with suppress(OSError):
        urllib.request.urlopen("http://127.0.0.1:1/")


def run_program() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def run_shell() -> None:
    os.system("true")


def write_file() -> None:
    with open(Path(request.environ["test.folder"]) / "out.txt", "w") as file:
        file.write("x")


def append_file() -> None:
    (Path(request.environ["test.folder"]) / "out.txt").open("a").close()


def write_low_level() -> None:
    path = Path(request.environ["test.folder"]) / "low.txt"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


EVENTS: dict[Callable[[], None], tuple[str, str]] = {
    connect: ("network", "socket.getaddrinfo"),
    ask_http: ("network", "http.client.connect"),
    run_program: ("process", "subprocess.Popen"),
    run_shell: ("process", "os.system"),
    write_file: ("file", "open"),
    append_file: ("file", "open"),
    write_low_level: ("file", "open"),
}


@pytest.mark.processes
@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize("view", EVENTS, ids=lambda view: view.__name__)
def test_an_event_fails_and_can_be_allowed_by_kind_or_name(
    view: Callable[[], None], tmp_path: Path
) -> None:
    kind, event = EVENTS[view]

    def with_folder() -> None:
        request.environ["test.folder"] = str(tmp_path)
        view()

    ask = request_from(with_folder)
    with pytest.raises(BlockingCall) as caught, no_blocking():
        ask()
    message = str(caught.value)
    assert message.count("POST / ") == 1, message  # one operation, however many events it is
    assert f"({event} " in message
    assert f" {view.__name__} <- " in message
    with no_blocking(allow=[kind]):
        ask()
    with no_blocking(allow=[event]):
        ask()


@pytest.mark.usefixtures("listener")
def test_a_host_can_be_allowed_and_another_is_not() -> None:
    ask = request_from(connect)
    with no_blocking(allow=[f"127.0.0.1:{listening_port()}"]):
        ask()
    with no_blocking(allow=["127.0.0.*"]):
        ask()
    with pytest.raises(BlockingCall), no_blocking(allow=["10.0.0.5:5432"]):
        ask()


@pytest.mark.usefixtures("listener")
def test_a_second_host_from_the_same_line_is_judged_by_itself() -> None:
    def connect_to_both() -> None:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, listening_port())).close()

    ask = request_from(connect_to_both)
    port = listening_port()
    one = [f"127.0.0.1:{port}"]
    with pytest.raises(BlockingCall, match="localhost"), no_blocking(allow=one):
        ask()
    with no_blocking(allow=[f"127.0.0.1:{port}", f"localhost:{port}"]):
        ask()


def test_mail_may_be_allowed_with_all_that_it_takes(mail: MailServer) -> None:
    ask = request_from(lambda: send(mail.port))
    with no_blocking(allow=["mail"]):
        ask()
    with pytest.raises(BlockingCall, match=r"smtplib\.connect"), no_blocking(allow=["network"]):
        ask()


@pytest.mark.parametrize(
    "view",
    [
        lambda: Path(__file__).read_text(),
        lambda: open(os.devnull, "w").close(),
        lambda: sum(range(1000)),
    ],
    ids=["reading", "devnull", "computing"],
)
def test_what_does_not_block_passes(view: Callable[[], object]) -> None:
    with no_blocking():
        request_from(view)()


def test_an_import_writes_its_bytecode_without_being_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_in_a_view.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with no_blocking():
        request_from(lambda: __import__("imported_in_a_view"))()
    assert list(tmp_path.glob("__pycache__/*.pyc"))  # or else this test has shown nothing


def test_an_upload_that_is_spooled_to_disk_is_the_framework_s_own() -> None:
    app = Flask(__name__)

    @app.post("/")
    def upload() -> str:
        with request.files["file"].stream as stream:
            return str(len(stream.read()))

    install(app, ProfilerSettings(False, False))
    size = 1024 * 1024
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * size)
        file.seek(0)
        with no_blocking(), app.test_client().post("/", data={"file": (file, "x")}) as answer:
            assert answer.get_data() == str(size).encode()
            spooled = answer.request  # type: ignore[attr-defined]
            spooled.environ["wsgi.input"].close()  # the test client has a file of its own


def joined() -> None:
    thread = threading.Thread(target=run_shell)
    thread.start()
    thread.join()


def result_of_a_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_shell).result()


def mapped_by_a_pool() -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: run_shell(), range(2)))


def pool_that_is_only_closed() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_shell)


def pool_of_threads() -> None:
    with ThreadPool(1) as pool:
        pool.apply(run_shell)


def queue_that_a_thread_fills() -> None:
    filled: queue.Queue[None] = queue.Queue()

    def fill() -> None:
        run_shell()
        filled.put(None)

    thread = threading.Thread(target=fill)
    thread.start()
    filled.get()
    Services.threads.append(thread)


def result_that_is_there_already(wait: Callable[[threading.Event, queue.Queue[None]], Any]) -> None:
    filled: queue.Queue[None] = queue.Queue()
    event = threading.Event()

    def fill() -> None:
        run_shell()
        filled.put(None)
        event.set()

    thread = threading.Thread(target=fill)
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
    wait(event, filled)


def queue_that_is_full_already() -> None:
    result_that_is_there_already(lambda event, filled: filled.get())


def event_that_is_set_already() -> None:
    result_that_is_there_already(lambda event, filled: event.wait())


def thread_of_a_thread() -> None:
    outer = threading.Thread(target=joined)
    outer.start()
    outer.join()


@pytest.mark.processes
@pytest.mark.parametrize(
    "view",
    [
        joined,
        result_of_a_pool,
        mapped_by_a_pool,
        pool_that_is_only_closed,
        pool_of_threads,
        queue_that_a_thread_fills,
        queue_that_is_full_already,
        event_that_is_set_already,
        thread_of_a_thread,
    ],
)
def test_what_a_thread_does_that_the_view_waits_for_counts(view: Callable[[], None]) -> None:
    ask = request_from(view)
    with pytest.raises(BlockingCall) as caught, no_blocking():
        ask()
    for thread in Services.threads:
        thread.join()
    assert "starts a program (os.system true)" in str(caught.value)
    assert f" {view.__name__} <- " in str(caught.value)
    assert "in a thread that the request waits for" in str(caught.value)
    with no_blocking(allow=["process"]):
        ask()


def test_a_pool_of_the_app_counts_when_its_thread_is_older_than_the_request() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with pytest.raises(BlockingCall, match=r"os\.system"), no_blocking():
            request_from(lambda: pool.submit(run_shell).result())()


def test_a_thread_that_nothing_waits_for_is_not_the_requests_doing() -> None:
    started: list[threading.Thread] = []

    def view() -> None:
        started.append(threading.Thread(target=run_shell))
        started[0].start()

    with no_blocking():
        request_from(view)()
        started[0].join()


def test_a_server_in_a_thread_of_the_test_is_not_the_requests_doing() -> None:
    """Its thread was started by another, though the view waits for its answer."""
    asked, answered = threading.Event(), threading.Event()

    def serve() -> None:
        asked.wait(10)
        run_shell()
        answered.set()

    server = threading.Thread(target=serve)
    server.start()

    def view() -> None:
        asked.set()
        answered.wait(10)

    with no_blocking():
        request_from(view)()
    server.join()


def test_a_stream_is_gated_too_with_a_length_or_without() -> None:
    for headers in ({}, {"Content-Length": "1"}):

        def view(headers: dict[str, str] = headers) -> Response:
            def chunks() -> Iterator[str]:
                time.sleep(0.3)
                run_shell()
                yield "x"

            return Response(chunks(), headers=headers)

        app = Flask(__name__)
        app.add_url_rule("/", "index", view)
        install(app, ProfilerSettings(False, False))
        for max_ms, says in ((None, r"os\.system"), (200.0, "chunks")):
            with pytest.raises(BlockingCall, match=says), no_blocking(max_ms):
                app.test_client().get("/").get_data()


@pytest.mark.usefixtures("listener")
def test_a_request_over_http_is_named_as_such() -> None:
    """Some libraries look up the host before they say so, and some never say so."""
    for library in (requests, httpx):

        def view(library: Any = library) -> None:
            with suppress(requests.ConnectionError, httpx.ConnectError):
                library.get("http://127.0.0.1:1/", timeout=5)

        with pytest.raises(BlockingCall, match="sends an HTTP request") as caught, no_blocking():
            request_from(view)()
        assert "looks up a host" not in str(caught.value)


def write_temporary() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
    with tempfile.NamedTemporaryFile() as named:
        named.write(b"x")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.txt").write_text("x")


def write_lock() -> None:
    folder = Path(request.environ["test.folder"])
    (folder / "MAIN_WRITELOCK").write_text("")
    (folder / "index.lock").write_text("")


def look_up_this_machine() -> None:
    socket.getfqdn("localhost")
    socket.getfqdn()
    socket.gethostbyname("localhost")


@pytest.mark.parametrize("view", [write_temporary, write_lock, look_up_this_machine])
def test_temporary_files_locks_and_this_machine_do_not_block(
    view: Callable[[], None], tmp_path: Path
) -> None:
    def with_folder() -> None:
        request.environ["test.folder"] = str(tmp_path)
        view()

    with no_blocking():
        request_from(with_folder)()


def test_what_is_hooked_to_a_commit_may_write(tmp_path: Path) -> None:
    """A search index does so after each commit."""
    engine = sqlalchemy.create_engine("sqlite://")
    library: dict[str, Any] = {"path": tmp_path / "segment.seg", "__name__": "search"}
    text = "def index(session): path.write_text('x')"
    exec(compile(text, "/usr/lib/python3/dist-packages/search.py", "exec"), library)

    def view() -> None:
        with Session(engine) as session:
            sqlalchemy.event.listen(session, "after_commit", library["index"])
            session.execute(sqlalchemy.text("SELECT 1"))
            session.commit()

    with no_blocking():
        request_from(view)()
    assert (tmp_path / "segment.seg").exists()
    engine.dispose()


def test_without_a_clock_no_time_is_claimed(tmp_path: Path) -> None:
    with pytest.raises(BlockingCall) as caught, no_blocking():
        request_from(lambda: (tmp_path / "out.txt").write_text("x") and None)()
    assert not re.search(r"\btime\b|blocked|%", str(caught.value))


def test_what_the_test_itself_does_is_not_the_requests_doing(tmp_path: Path) -> None:
    ask = request_from(lambda: None)
    with no_blocking():
        (tmp_path / "fixture.txt").write_text("x")
        ask()
        run_shell()


def test_an_async_view_is_gated_too() -> None:
    app = Flask(__name__)

    @app.get("/")
    async def index() -> str:
        run_shell()
        return "done"

    install(app, ProfilerSettings(False, False))
    with pytest.raises(BlockingCall, match=r"run_shell <- .* index"), no_blocking():
        app.test_client().get("/").close()


# --- both, and the rest ------------------------------------------------------------------------


def test_both_modes_can_be_asked_for() -> None:
    def view() -> None:
        nap()
        run_shell()

    with pytest.raises(BlockingCall) as caught, no_blocking(max_ms=LIMIT_MS, events=True):
        request_from(view)()
    by_clock, *by_event = str(caught.value).splitlines()
    assert "nap" in by_clock
    assert "run_shell" in by_event.pop()
    assert [line for line in by_event if "nap" not in line] == []  # an event from Python 3.13 on
    with no_blocking(max_ms=10_000):
        request_from(run_shell)()


def test_without_a_request_it_has_seen_nothing_and_says_so() -> None:
    with pytest.raises(NoRequestProfiled, match="test client"), no_blocking():
        pass


def test_a_pattern_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"allow=\['mail'\]"), no_blocking(allow="mail"):
        pass


def test_an_error_of_the_block_is_not_hidden() -> None:
    def fails() -> None:
        request_from(run_shell)()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), no_blocking():
        fails()


def test_it_is_a_failed_assertion_for_pytest_and_an_offload_error() -> None:
    assert issubclass(BlockingCall, AssertionError)
    assert issubclass(BlockingCall, OffloadError)


def test_it_decorates_a_test() -> None:
    @no_blocking()
    def run() -> None:
        request_from(run_shell)()

    for _ in range(2):
        with pytest.raises(BlockingCall):
            run()


def test_after_the_block_nothing_listens() -> None:
    with no_blocking():
        request_from(lambda: None)()
    assert audit.listener.get() is None
    request_from(run_shell)()


def test_there_is_one_audit_hook_however_often_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_blocking():
        request_from(lambda: None)()
    added: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", added.append)
    with no_blocking():
        request_from(lambda: None)()
    assert added == []


def test_a_sleep_is_an_event_where_python_reports_it() -> None:
    """Python 3.13 does; the event is raised here by hand, so that older ones can test it."""
    with pytest.raises(BlockingCall, match=r"sleeps \(time\.sleep 1\)"), no_blocking():
        request_from(lambda: sys.audit("time.sleep", 1))()
