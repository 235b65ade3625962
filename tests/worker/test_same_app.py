"""A worker that a web process keeps is the same app: its configuration, its interpreter's flags; it
starts with the server, and is waited for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from flask_offload.worker.app_identity import differences, digests
from flask_offload.worker.code_identity import other_code, own_code, publish
from flask_offload.worker.keeper import python
from proc import alive
from support import Running, answers, free_port, http_get, running, wait_until

pytestmark = pytest.mark.processes

SHOP = """
import os, sys, time
from datetime import timedelta
from flask import Flask, current_app
from flask_offload import Offload
offload = Offload()

def note(text):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(text + "\\n")

@offload.task
def charge() -> None:
    note(f"charged {current_app.config['PAYMENTS']} {sys.flags.safe_path} {os.getpid()}")

@offload.task(on_crash="fail")
def slow() -> None:
    note("slow began")
    time.sleep(2)
    note("slow done")

@offload.task
def refuse() -> None:
    raise ValueError("no account")

@offload.every(timedelta(seconds=1))
@offload.task
def beat() -> None:
    note("beat")

def create_app(kind="sandbox"):
    app = Flask("shop")
    app.config.update(PAYMENTS=os.environ.get("PAYMENTS", kind))
    offload.init_app(app)
    app.add_url_rule("/", "home", lambda: f"{os.getpid()}")
    app.add_url_rule("/go", "go", lambda: charge.enqueue().id)
    app.add_url_rule("/refuse", "refuse", lambda: refuse.enqueue().id)
    app.add_url_rule("/slow", "slow", lambda: slow.enqueue().id)
    return app
"""

SERVE = {
    "an argument": "from waitress import serve\nfrom shop import create_app\n"
    "serve(create_app('bank'), listen=f'127.0.0.1:{PORT}')",
    "a variable": "from shop import create_app\napp = create_app('bank')\napp.run(port=PORT)",
    "changed later": "from waitress import serve\nfrom shop import create_app\napp = create_app()\n"
    "app.config['PAYMENTS'] = 'bank'\nserve(app, listen=f'127.0.0.1:{PORT}')",
    "wrapped": "from waitress import serve\nfrom werkzeug.middleware.proxy_fix import ProxyFix\n"
    "from shop import create_app\nserve(ProxyFix(create_app('bank')), listen=f'127.0.0.1:{PORT}')",
}


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "shop.py").write_text(SHOP)
        self.notes_file = folder / "notes"
        self.env = {
            "NOTES": str(self.notes_file),
            "FLASK_OFFLOAD_SQLITE_PATH": str(folder / "jobs.sqlite3"),
            "PYTHONPATH": "",
        }

    def notes(self, start: str = "") -> list[str]:
        text = self.notes_file.read_text() if self.notes_file.exists() else ""
        return [line for line in text.splitlines() if line.startswith(start)]

    @contextmanager
    def serve(self, *command: str, request: bool = True, **env: str) -> Iterator[Running]:
        def ready(_: object) -> bool:
            return answers(f"{self.url}/") if request else True

        words = [word.replace("PORT", str(self.port)) for word in command]
        with running(
            [sys.executable, *words], env={**self.env, **env}, cwd=self.folder, ready=ready
        ) as process:
            yield process


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.parametrize("how", SERVE)
def test_jobs_run_with_the_configuration_of_the_web_process(shop: Shop, how: str) -> None:
    (shop.folder / "serve.py").write_text(SERVE[how].replace("PORT", str(shop.port)))
    with shop.serve("serve.py"):
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")
        assert shop.notes("charged bank")
        assert not shop.notes("charged sandbox")


def test_a_refused_worker_names_what_differs(shop: Shop) -> None:
    (shop.folder / "serve.py").write_text(SERVE["an argument"].replace("PORT", str(shop.port)))
    with shop.serve("serve.py") as process:
        http_get(f"{shop.url}/go")
        process.wait_for("another configuration than the web process: PAYMENTS differs", 30)
        assert "bank" not in process.output()


def test_a_dotenv_file_that_the_server_does_not_read_is_not_read_by_its_worker(shop: Shop) -> None:
    (shop.folder / ".env").write_text("PAYMENTS=laptop\n")
    (shop.folder / ".flaskenv").write_text("FLASK_DEBUG=1\n")
    with shop.serve("-m", "gunicorn", "-b", "127.0.0.1:PORT", "shop:create_app('bank')"):
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")
        (line,) = shop.notes("charged")
        assert line.split()[1] == "bank"
        assert line.split()[3] != http_get(f"{shop.url}/").text, "in a process of its own"


def test_the_flags_of_the_interpreter_are_kept(shop: Shop) -> None:
    command = ("-P", "-m", "flask", "--app", "shop", "run", "--port", "PORT")
    with shop.serve(*command, PYTHONPATH=str(shop.folder)):
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")
        assert shop.notes("charged")[0].split()[2] == "True"


HOSTED = """
import time
from shop import create_app
app = create_app("bank")
time.sleep(0.5)     # uvicorn imports this inside of its loop: not yet served
"""

TORNADO = """
import asyncio, sys
from tornado.httpserver import HTTPServer
from tornado.wsgi import WSGIContainer
from shop import create_app

app = create_app()

async def main():
    HTTPServer(WSGIContainer(app)).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "gunicorn", "-b", "127.0.0.1:PORT", "shop:create_app()"),
        ("-m", "gunicorn", "-b", "127.0.0.1:PORT", "--preload", "-w", "2", "shop:create_app()"),
        ("-m", "waitress", "--listen=127.0.0.1:PORT", "--call", "shop:create_app"),
        ("-m", "flask", "--app", "shop", "run", "--port", "PORT"),
        ("-m", "hypercorn", "-b", "127.0.0.1:PORT", "wsgi:hosted:app"),
        ("-m", "granian", "--interface", "wsgi", "--port", "PORT", "hosted:app"),
        ("-m", "uvicorn", "--interface", "wsgi", "--workers", "2", "--port", "PORT", "hosted:app"),
        ("torn.py", "PORT"),
    ],
    ids=[
        *("gunicorn", "gunicorn --preload", "waitress", "flask run"),
        *("hypercorn", "granian", "uvicorn --workers", "tornado in asyncio"),
    ],
)
def test_schedules_run_before_anybody_visits(shop: Shop, command: tuple[str, ...]) -> None:
    (shop.folder / "hosted.py").write_text(HOSTED)
    (shop.folder / "torn.py").write_text(TORNADO)
    with shop.serve(*command, request=False) as process:
        wait_until(lambda: shop.notes("beat"), 30, "the schedule has run without a request")
        assert "threads of the web process" not in process.output()


DRAINED = {
    "gunicorn": ("-m", "gunicorn", "-b", "127.0.0.1:PORT", "shop:create_app()"),
    "hypercorn": ("-m", "hypercorn", "-b", "127.0.0.1:PORT", "wsgi:hosted:app"),
    "granian": ("-m", "granian", "--interface", "wsgi", "--port", "PORT", "hosted:app"),
    "waitress": ("-m", "waitress", "--listen=127.0.0.1:PORT", "--call", "shop:create_app"),
    "flask run": ("-m", "flask", "--app", "shop", "run", "--port", "PORT"),
    "uvicorn": ("-m", "uvicorn", "--interface", "wsgi", "--port", "PORT", "hosted:app"),
    "tornado": ("torn.py", "PORT"),
}


@pytest.mark.parametrize(
    ("server", "mode"),
    [
        *((server, "auto") for server in ("gunicorn", "hypercorn", "granian", "waitress")),
        *((server, "thread") for server in ("flask run", "uvicorn", "tornado", "waitress")),
    ],
)
def test_a_web_process_that_ends_waits_for_its_jobs(shop: Shop, server: str, mode: str) -> None:
    (shop.folder / "hosted.py").write_text(HOSTED)
    (shop.folder / "torn.py").write_text(TORNADO)
    with shop.serve(*DRAINED[server], FLASK_OFFLOAD_WORKER=mode) as process:
        http_get(f"{shop.url}/slow")
        wait_until(lambda: shop.notes("slow began"), 30, "the job runs")
        process.send(signal.SIGTERM)
        process.wait(30)
        assert shop.notes("slow done"), "the server has waited for the job"


OWN_HANDLER = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
from waitress import serve
from shop import create_app
app = create_app()
serve(app, listen="127.0.0.1:" + sys.argv[1])
"""

FORK = """
import os, signal, sys, threading, time
from waitress import serve
from shop import create_app
app = create_app()
threading.Thread(target=time.sleep, args=(600,)).start()  # not a daemon: a process waits for it
if (child := os.fork()) == 0:
    print("forked", os.getpid(), flush=True)
    time.sleep(600)
serve(app, listen="127.0.0.1:" + sys.argv[1])
"""


def test_a_handler_of_the_app_s_own_is_left_alone(shop: Shop) -> None:
    (shop.folder / "serve.py").write_text(OWN_HANDLER)
    with shop.serve("serve.py", "PORT") as process:
        process.send(signal.SIGTERM)
        assert process.wait(30) == 7


def test_the_end_has_a_bound_and_forks_end_at_once(shop: Shop) -> None:
    (shop.folder / "serve.py").write_text(FORK)
    with shop.serve("serve.py", "PORT", FLASK_OFFLOAD_DRAIN_TIMEOUT="0.1") as process:
        process.wait_for("forked")
        child = int(process.output().partition("forked ")[2].split()[0])
        os.kill(child, signal.SIGTERM)
        wait_until(lambda: not alive(child), 10, "the fork has ended")
        process.send(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


OWN_CLI = """
import click
from flask.cli import FlaskGroup
from shop import create_app

def make():
    return create_app(click.get_current_context().find_root().params["kind"])

@click.group(cls=FlaskGroup, create_app=make, add_default_commands=True)
@click.option("--kind", default="sandbox")
def cli(kind):
    pass

if __name__ == "__main__":
    cli()
"""


@pytest.mark.parametrize("start", [["forum.py"], ["-m", "forum"]], ids=["file", "module"])
def test_an_app_with_its_own_command_line_is_started_by_it(shop: Shop, start: list[str]) -> None:
    (shop.folder / "forum.py").write_text(OWN_CLI)
    with shop.serve(*start, "--kind", "bank", "run", "--port", "PORT"):
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")
        (line,) = shop.notes("charged")
        assert line.split()[1] == "bank"
        assert line.split()[3] != http_get(f"{shop.url}/").text, "in a process of its own"


def test_an_own_command_line_without_our_commands_means_threads(shop: Shop) -> None:
    own = OWN_CLI.replace("cli()", "cli.commands.pop('offload', None); cli()")
    own = own.replace(
        "import click\n", "import click, sys\nif 'offload' in sys.argv: sys.exit(2)\n"
    )
    (shop.folder / "forum.py").write_text(own)
    with shop.serve("forum.py", "--kind", "bank", "run", "--port", "PORT") as process:
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged bank"), 30, "the job has run")
        process.wait_for("jobs run in threads of the web process", 10)


MADE_UP_SERVER = """
import threading, io
from socketserver import StreamRequestHandler, ThreadingTCPServer
from shop import create_app
app = create_app()

class Handler(StreamRequestHandler):
    def handle(self):
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "x",
            "SERVER_PORT": "1", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http", "wsgi.version": (1, 0)}
        body = b"".join(app(environ, lambda *args: None))
        self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + body)

ThreadingTCPServer.allow_reuse_address = True
ThreadingTCPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""


def test_a_server_that_says_nothing_of_itself_warns_at_the_first_enqueue(shop: Shop) -> None:
    (shop.folder / "serve.py").write_text(MADE_UP_SERVER.replace("PORT", str(shop.port)))
    with shop.serve("serve.py") as process:
        http_get(f"{shop.url}/go")
        http_get(f"{shop.url}/go")
        process.wait_for("a request is handled by a server that is not known", 10)
        assert process.output().count("server that is not known") == 1


CLICK_SERVER = """
import click
from waitress import serve

@click.command()
@click.argument("port", type=int)
def main(port):
    from shop import create_app
    app = create_app()

    def wrapped(environ, start_response):
        del environ["SERVER_SOFTWARE"]
        return app(environ, start_response)

    serve(wrapped, listen=f"127.0.0.1:{port}")

main()
"""


def test_a_server_whose_command_line_is_made_with_click_is_a_server(shop: Shop) -> None:
    (shop.folder / "serve.py").write_text(CLICK_SERVER)
    with shop.serve("serve.py", "PORT"):
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")


def test_code_without_a_file_falls_back_to_threads(shop: Shop) -> None:
    code = (
        f"import shop; from flask import Flask; app = shop.create_app(); app.run(port={shop.port})"
    )
    with shop.serve("-c", code, PYTHONPATH=str(shop.folder)):
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")


def test_a_frozen_app_runs_its_jobs_in_threads_and_says_why(shop: Shop) -> None:
    """Also where sys.executable looks like an interpreter: it would be the app, once more."""
    frozen = "import sys\nsys.frozen = True\n" + SERVE["a variable"]
    (shop.folder / "serve.py").write_text(frozen.replace("PORT", str(shop.port)))
    with shop.serve("serve.py") as process:
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged bank"), 30, "the job has run")
        assert shop.notes("charged")[0].split()[3] == http_get(f"{shop.url}/").text
        process.wait_for("this app is frozen", 10)
        process.wait_for("OFFLOAD_WORKER = 'thread' says that this is meant", 10)
        assert "flask --app" not in process.output(), "no advice that a frozen app can't follow"


def test_a_second_server_with_newer_code_warns_that_the_older_one_runs_its_jobs(
    shop: Shop,
) -> None:
    def command(port: int) -> list[str]:
        return ["-m", "flask", "--app", "shop", "run", "--port", str(port)]

    with shop.serve(*command(shop.port)) as old:
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the older server has its worker")
        (shop.folder / "shop.py").write_text(SHOP.replace("charged", "billed"))
        with shop.serve(*command(free_port()), request=False) as new:
            new.wait_for("but with another version of shop: stop that process", 30)
            assert f"the worker of process {old.pid} runs" in new.output()


def test_only_modules_that_both_processes_have_are_compared(tmp_path: Path) -> None:
    file, code = tmp_path / "keeper.json", own_code()
    assert other_code(file, code) == (0, []), "nothing is published"
    assert "flask" not in code
    assert "support" in code
    publish(file, code)
    assert other_code(file, code) == (os.getpid(), [])
    assert other_code(file, {**code, "support": "x", "new": "y"}) == (os.getpid(), ["support"])
    file.write_text("{")
    assert other_code(file, code) == (0, [])


def test_any_failure_of_the_keeper_falls_back_to_threads(shop: Shop) -> None:
    (shop.folder / "serve.py").write_text(
        "import flask_offload.worker.keeper as keeper\n"
        "def missing(): raise FileNotFoundError('no python')\n"
        "keeper.python = missing\n" + SERVE["an argument"].replace("PORT", str(shop.port))
    )
    with shop.serve("serve.py") as process:
        http_get(f"{shop.url}/go")
        wait_until(lambda: shop.notes("charged"), 30, "the job has run")
        assert "no worker process can be started here (FileNotFoundError" in process.output()


def test_digests_are_equal_for_equal_values_in_any_process_and_differ_for_others() -> None:
    def config() -> dict[str, object]:
        return {
            "A": {"b": [1, (2.5, None)], "c": {"x", "y"}},
            "OBJECT": object(),
            "CALL": print,
            "KEY": b"secret",
            "PATH": Path("/a"),
        }

    assert differences(config(), digests(config())) == []
    assert "secret" not in str(digests(config()))
    changed = {**config(), "KEY": b"other", "A": {}, "NEW": 1}
    del changed["PATH"]
    assert differences(changed, digests(config())) == ["A", "KEY", "NEW", "PATH"]
    one, other = Flask("a"), Flask("a")
    other.config["RUN_FROM_CLI"] = "true"
    assert differences(one.config, digests(other.config)) == []


def test_jobs_show_in_the_terminal_of_a_development_server(shop: Shop) -> None:
    command = ("-m", "flask", "--app", "shop", "run", "--debug", "--no-reload", "--port", "PORT")
    with shop.serve(*command) as process:
        job = http_get(f"{shop.url}/go").text[:12]
        process.wait_for(f"charge #{job} done in ", 30)
        assert f"charge #{job} started\n" in process.output()
        refused = http_get(f"{shop.url}/refuse").text
        process.wait_for(f"ERROR refuse #{refused[:12]}, attempt 1: failed after ", 30)
        process.wait_for("ValueError: no account", 30)
        assert refused not in process.output()


def test_there_is_an_interpreter_also_under_a_server_that_embeds_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert os.access(python(), os.X_OK)
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    with pytest.raises(FileNotFoundError, match="no Python interpreter in /nowhere"):
        python()
