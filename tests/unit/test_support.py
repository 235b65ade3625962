"""The tests' own tools: the leak detector sees each kind of leak, and CI skips nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import leaks
import proc
from flask_offload.profiler.middleware import sampler
from support import (
    Running,
    free_port,
    http_get,
    http_post,
    kill9,
    listening,
    require_tool,
    running,
    wait_until,
)

pytestmark = pytest.mark.processes

TESTS = Path(__file__).parents[1]


def run_pytest(folder: Path, source: str, *arguments: str, **env: str) -> str:
    """Run a test file under the rules of conftest.py; what pytest printed."""
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "pytest_timeout", "-rA"]
    # The other installed plugins take longer to import than all of this.
    fixed = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "CI": ""}
    variables = {**os.environ, **fixed, "PYTHONPATH": f"{TESTS}:{TESTS / 'helpers'}", **env}
    done = subprocess.run(
        [*command, *arguments, str(folder)],
        env=variables,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


# --- leaks -------------------------------------------------------------------------------------

LEAKING = """
    import socket, subprocess, sys, threading
    import apsw, flask, leaks, pytest

    pytestmark = pytest.mark.processes
    leaks.GRACE = 0.3
    kept = []

    def test_context():
        flask.Flask("leaky").app_context().push()

    def test_request_context():
        flask.Flask("leaky").test_request_context("/here").push()

    def test_thread():
        event = threading.Event()
        threading.Thread(target=event.wait, name="forgotten", daemon=True).start()
        kept.append(event)

    def test_process():
        kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        kept[-1].stdin.close = lambda: None

    def test_orphan():
        script = "import subprocess, sys; subprocess.Popen(['sleep', '60'], start_new_session=True)"
        subprocess.run([sys.executable, "-c", script], check=True)

    def test_database(tmp_path):
        connection = apsw.Connection(str(tmp_path / "jobs.sqlite3"))
        connection.execute("create table t (i)")
        kept.append(connection)

    def test_socket():
        kept.append(socket.socket())

    def test_clean(tmp_path):
        with flask.Flask("tidy").app_context():
            pass
        thread = threading.Thread(target=print)
        thread.start()
        thread.join()
        subprocess.run([sys.executable, "-c", ""], check=True)
        apsw.Connection(str(tmp_path / "jobs.sqlite3")).close()
"""


@pytest.mark.skipif(not proc.AVAILABLE, reason="no /proc here")
def test_each_kind_of_leak_is_named(tmp_path: Path) -> None:
    printed = run_pytest(tmp_path, LEAKING, "-o", "markers=processes")
    found = dict(re.findall(r"::(test_\w+) left behind:\n- (.*)", printed))
    assert found["test_context"].startswith("a context is still pushed: <flask.ctx.AppContext")
    assert "RequestContext" in found["test_request_context"]
    assert found["test_thread"].startswith("the thread 'forgotten' still runs")
    assert re.match(r"process \d+ still runs: .*input\(\)", found["test_process"])
    assert re.match(
        r"process \d+ still runs: sleep 60 \(begun in .*_orphan\)", found["test_orphan"]
    )
    assert re.match(r"descriptor \d+ is still open: /.*/jobs.sqlite3", found["test_database"])
    assert re.match(r"descriptor \d+ is still open: socket:", found["test_socket"])
    assert "test_clean" not in found
    assert "8 passed, 7 errors" in printed


# --- skipping ----------------------------------------------------------------------------------

SKIPPING = """
    import pytest
    from support import not_promised, require_tool

    def test_tool():
        require_tool("no-such-program", "nor-this-one")

    def test_flag():
        not_promised("this engine has no queues")

    @pytest.mark.skip(reason="for no good reason")
    def test_mark():
        pass

    @pytest.mark.xfail(reason="known")
    def test_known():
        assert False
"""


WHOLE_FILE = "import pytest\npytest.importorskip('no_such_module')"


def test_a_laptop_skips_visibly(tmp_path: Path) -> None:
    (tmp_path / "test_whole_file.py").write_text(WHOLE_FILE)
    printed = run_pytest(tmp_path, SKIPPING)
    assert "4 skipped, 1 xfailed" in printed
    assert "no-such-program or nor-this-one is not installed" in printed


def test_ci_skips_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_whole_file.py").write_text(WHOLE_FILE)
    printed = run_pytest(tmp_path, SKIPPING, "--continue-on-collection-errors", CI="true")
    assert "1 failed, 1 skipped, 1 xfailed, 2 errors" in printed
    assert "CI must have it: no-such-program or nor-this-one is not installed" in printed
    assert "skipped, and CI must run everything: for no good reason" in printed
    assert "skipped, and CI must run everything: could not import 'no_such_module'" in printed


def test_a_hung_test_fails_with_its_stack_and_the_others_go_on(tmp_path: Path) -> None:
    printed = run_pytest(
        tmp_path,
        """
        import pytest, threading

        @pytest.mark.timeout(0.5)
        def test_hangs():
            threading.Event().wait()

        def test_goes_on():
            pass
        """,
    )
    assert "1 failed, 1 passed" in printed
    assert "threading.Event().wait()" in printed


# --- processes and HTTP ------------------------------------------------------------------------

SERVER = """
import http.server, subprocess, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(self.path.encode())

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"] or 0)))

    def answer(self, body):
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seen", self.headers.get("Content-Type", "-"))
        self.end_headers()
        self.wfile.write(body)

subprocess.Popen(["sleep", "60"], start_new_session=True)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
"""


def test_running_serves_and_leaves_nothing() -> None:
    port = free_port()
    assert not listening(port)
    with running([sys.executable, "-c", SERVER, str(port)], ready="ready") as server:
        assert listening(port)
        answer = http_get(f"http://127.0.0.1:{port}/a?b=c")
        assert (answer.status, answer.text) == (202, "/a?b=c")
        answer = http_post(f"http://127.0.0.1:{port}/", json={"n": 1})
        assert answer.json() == {"n": 1}
        assert answer.headers["x-seen"] == "application/json"
        assert http_post(f"http://127.0.0.1:{port}/", form={"n": "1 2"}).text == "n=1+2"
        family = [server.pid, *server.family()]
        assert all(map(proc.alive, family))
        assert [proc.command_line(pid) for pid in family[1:]] == ["sleep 60"] or not proc.AVAILABLE
    assert not any(map(proc.alive, family))
    assert "GET /a" in server.output()


def test_running_reports_why_it_did_not_start() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]

    def up(_: Running) -> bool:
        return False

    for ready in ("ready", up):
        with pytest.raises(AssertionError, match=r"exit code 1\), which printed:\nno such luck"):
            running(command, ready=ready).__enter__()


def test_kill9_reaches_one_process() -> None:
    with running([sys.executable, "-c", "print('up'); input()"], ready="up") as process:
        pass
    assert process.popen.returncode is not None
    with running(["sleep", "60"]) as process:
        kill9(process.pid)
        assert process.wait() == -signal.SIGKILL


def test_wait_until_fails_with_its_message() -> None:
    assert wait_until(lambda: "value") == "value"
    with pytest.raises(AssertionError, match=r"waited 0.01 s in vain: the last state"):
        wait_until(lambda: False, 0.01, lambda: "the last state")


def test_require_tool_finds_what_is_here() -> None:
    assert Path(require_tool("no-such-program", "sh")).name == "sh"


@pytest.mark.skipif(not proc.AVAILABLE, reason="no /proc here")
def test_a_write_of_statistics_is_no_leak(tmp_path: Path) -> None:
    before, has_opened = leaks.Snapshot.take(), threading.Event()

    def write() -> None:
        with sampler.reporter._writing, (tmp_path / "statistics").open("w"):
            has_opened.set()
            time.sleep(1)  # longer than a file may stay open

    thread = threading.Thread(target=write)
    thread.start()
    assert has_opened.wait(10)
    found = before._descriptors()
    thread.join()
    assert found == {}
