"""The keeper: a web server alone is a complete system, however it is started."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_offload import JobStatus, Offload
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.sqlite.recovery import live_workers
from flask_offload.engines.store import WorkerInfo
from jobs_server import Site, make_site
from proc import command_line, descendants, parent
from support import Running, answers, free_port, http_get, http_post, kill9, running, wait_until

pytestmark = pytest.mark.processes

APP = """
    import os
    from flask import Flask
    from flask_offload import Offload

    offload = Offload()

    @offload.task
    def pid() -> int:
        return os.getpid()

    {body}
"""

GLOBAL = """
    app = Flask(__name__)
    offload.init_app(app)

    @app.get("/")
    def index():
        return str(os.getpid())

    @app.post("/job")
    def post():
        return offload.accepted(pid.enqueue())
"""

FACTORY = """
    def create_app(mode="plain"):
        app = Flask(__name__)
        app.config["MODE"] = mode
        offload.init_app(app)

        @app.get("/")
        def index():
            return str(os.getpid())

        @app.post("/job")
        def post():
            return offload.accepted(pid.enqueue())

        return app
"""

SCRIPT = (
    GLOBAL
    + """
    if __name__ == "__main__":
        app.run(port=int(os.environ["PORT"]))
"""
)

WAITRESS = (
    FACTORY
    + """
    if __name__ == "__main__":
        import waitress
        app = create_app()
        waitress.serve(app, port=int(os.environ["PORT"]), host="127.0.0.1")
"""
)

HIDDEN = (
    FACTORY.replace("def create_app", "def hidden")
    + """
    if __name__ == "__main__":
        hidden().run(port=int(os.environ["PORT"]))
"""
)


def write(folder: Path, body: str, name: str = "site_app.py") -> Path:
    source = textwrap.dedent(APP).replace("{body}", textwrap.dedent(body))
    path = folder / name
    path.write_text(source)
    return path


class Served:
    """A server under test and the database that its app uses."""

    def __init__(self, url: str, process: Running, database: Path) -> None:
        self.url = url
        self.process = process
        self.engine = SqliteEngine(database)

    def run_a_job(self) -> dict[str, Any]:
        """Enqueue over HTTP, and wait for the result in the database."""
        response = http_post(f"{self.url}/job")
        assert response.status == 202, response.text
        job_id = response.headers["Location"].rpartition("/")[2]
        assert http_get(str(response.headers["Location"])).json()["id"] == job_id
        wait_until(
            lambda: self.engine.get(job_id).status.is_finished,
            20,
            lambda: f"{self.engine.get(job_id)} to finish under {self.process}",
        )
        record = self.engine.get(job_id)
        assert record.status is JobStatus.SUCCESSFUL, record
        return {"task": record.task, "pid": int(record.result or "0"), "id": job_id}

    def workers(self) -> list[WorkerInfo]:
        return live_workers(self.engine)


@contextmanager
def serve(folder: Path, command: list[str], **env: str) -> Iterator[Served]:
    """Run a server; {port} in its command becomes the port."""
    port = free_port()
    database = folder / "instance" / "offload.sqlite3"
    with running(
        [word.replace("{port}", str(port)) for word in command],
        env={"PORT": str(port), **env},
        cwd=folder,
        ready=lambda _: answers(f"http://127.0.0.1:{port}/"),
    ) as process:
        served = Served(f"http://127.0.0.1:{port}", process, database)
        try:
            yield served
        finally:
            served.engine.close()


FLASK = [sys.executable, "-m", "flask"]
GUNICORN = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}"]

SERVERS = {
    "flask run": (GLOBAL, [*FLASK, "--app", "site_app", "run", "--port", "{port}"]),
    "flask run, reloader": (
        GLOBAL,
        [*FLASK, "--app", "site_app", "run", "--debug", "--port", "{port}"],
    ),
    "flask run, factory": (
        FACTORY,
        [*FLASK, "--app", "site_app:create_app('x')", "run", "--port", "{port}"],
    ),
    "python app.py": (SCRIPT, [sys.executable, "site_app.py"]),
    "waitress in a script": (WAITRESS, [sys.executable, "site_app.py"]),
    "gunicorn": (GLOBAL, [*GUNICORN, "site_app:app"]),
    "gunicorn, 4 workers, preload": (
        FACTORY,
        [*GUNICORN, "--workers", "4", "--preload", "site_app:create_app('x')"],
    ),
    "gunicorn, gthread": (GLOBAL, [*GUNICORN, "-k", "gthread", "--threads", "4", "site_app:app"]),
    "gunicorn, gevent": (GLOBAL, [*GUNICORN, "-k", "gevent", "site_app:app"]),
    "waitress": (
        GLOBAL,
        [sys.executable, "-m", "waitress", "--listen=127.0.0.1:{port}", "site_app:app"],
    ),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_alone_runs_its_jobs(tmp_path: Path, name: str) -> None:
    body, command = SERVERS[name]
    write(tmp_path, body)
    with serve(tmp_path, command) as served:
        done = served.run_a_job()
        assert done["task"] == "site_app.pid"
        (worker,) = served.workers()
        assert worker.kind == "kept"
        assert " offload worker " in command_line(worker.pid)
        assert done["pid"] in descendants(worker.pid)  # not in the web process
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        server_pids = {served.process.pid, *descendants(served.process.pid)}
        assert worker.pid in server_pids


def test_the_worker_leaves_with_the_server(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    with serve(tmp_path, [*GUNICORN, "site_app:app"]) as served:
        served.run_a_job()
        (worker,) = served.workers()
        served.process.stop()
        wait_until(lambda: not served.workers(), 20, "the worker to leave")
        wait_until(lambda: not Path(f"/proc/{worker.pid}").exists(), 20, "its process to end")


def test_another_web_process_takes_over_when_the_keeper_is_killed(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    with serve(tmp_path, [*GUNICORN, "--workers", "2", "site_app:app"]) as served:
        both = set()

        def seen_both() -> bool:  # so that each of them has a keeper
            both.add(http_get(f"{served.url}/").text)
            return len(both) == 2

        wait_until(seen_both, 30, "both web workers to have answered")
        served.run_a_job()
        (first,) = served.workers()
        kill9(parent(first.pid) or 0)
        served.run_a_job()  # by the one that leaves, or by the one that comes
        wait_until(
            lambda: [worker.id != first.id for worker in served.workers()] == [True],
            20,
            lambda: f"another worker in place of {first.id}: {served.workers()}",
        )
        (second,) = served.workers()
        assert served.run_a_job()["pid"] in descendants(second.pid)


def test_recycled_web_workers_hand_over(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    command = [*GUNICORN, "--workers", "2", "--max-requests", "5", "site_app:app"]
    with serve(tmp_path, command) as served:
        seen = set()
        for _ in range(20):
            seen.add(http_get(f"{served.url}/").text)
            served.run_a_job()
        assert len(seen) > 2
        wait_until(lambda: len(served.workers()) == 1, 30, lambda: str(served.workers()))


def test_new_code_gets_a_new_worker_under_the_reloader(tmp_path: Path) -> None:
    path = write(tmp_path, GLOBAL)
    _, command = SERVERS["flask run, reloader"]
    with serve(tmp_path, command) as served:
        first = served.run_a_job()
        (old,) = served.workers()
        path.write_text(path.read_text().replace("return os.getpid()", "return -os.getpid()"))
        wait_until(lambda: answers(f"{served.url}/") and _is_gone(old), 30)
        second = served.run_a_job()
        assert first["pid"] > 0 > second["pid"]


def _is_gone(worker: WorkerInfo) -> bool:
    return not Path(f"/proc/{worker.pid}").exists()


def test_an_app_that_cannot_be_imported_again_is_served_by_threads(tmp_path: Path) -> None:
    write(tmp_path, HIDDEN)
    with serve(tmp_path, [sys.executable, "site_app.py"]) as served:
        done = served.run_a_job()
        assert done["pid"] == served.process.pid
        assert [worker.kind for worker in served.workers()] == ["thread"]
        assert served.process.output().count("no worker process could import this app") == 1


def test_thread_mode_and_its_end(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    with serve(tmp_path, [*GUNICORN, "site_app:app"], FLASK_OFFLOAD_WORKER="thread") as served:
        done = served.run_a_job()
        assert done["pid"] in descendants(served.process.pid)
        assert [worker.kind for worker in served.workers()] == ["thread"]
        served.process.stop()
        assert served.workers() == []


def test_a_single_thread_serves_all_lanes(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    mode = {"FLASK_OFFLOAD_WORKER": "thread", "FLASK_OFFLOAD_WORKER_THREADS": "1"}
    with serve(tmp_path, [*GUNICORN, "site_app:app"], **mode) as served:
        assert served.run_a_job()["id"] != served.run_a_job()["id"]


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_the_levels_of_an_app_that_configures_logging_apply(tmp_path: Path, level: str) -> None:
    setup = f'import logging\nlogging.basicConfig(level="{level}")\n'
    path = write(tmp_path, GLOBAL)
    path.write_text(setup + path.read_text())
    with serve(tmp_path, [*GUNICORN, "site_app:app"]) as served:
        job = served.run_a_job()
        line = f"{job['id']} of site_app.pid, attempt 1: succeeded"
        if level == "INFO":
            served.process.wait_for(line)
    assert (line in served.process.output()) is (level == "INFO")
    assert line.replace("succeeded", "started") not in served.process.output()  # that is DEBUG


def test_off_starts_nothing(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL)
    with serve(tmp_path, [*GUNICORN, "site_app:app"], FLASK_OFFLOAD_WORKER="off") as served:
        assert http_post(f"{served.url}/job").status == 202
        assert served.workers() == []
        assert len(descendants(served.process.pid)) == 1  # gunicorn's own worker


def test_commands_and_scripts_never_start_a_worker(tmp_path: Path) -> None:
    write(tmp_path, GLOBAL + '\n    app.cli.command("enqueue")(lambda: pid.enqueue() and None)\n')
    script = tmp_path / "script.py"
    script.write_text(
        "from site_app import app, pid\nwith app.app_context():\n    print(pid.enqueue())\n"
    )
    shell = [*FLASK, "--app", "site_app", "shell"]
    for command in ([*FLASK, "--app", "site_app", "enqueue"], [sys.executable, str(script)], shell):
        with running(command, cwd=tmp_path) as process:
            assert process.wait(30) == 0, str(process)
            assert process.family() == []
    engine = SqliteEngine(tmp_path / "instance" / "offload.sqlite3")
    assert live_workers(engine) == []
    assert engine.count()[JobStatus.READY] == 2
    engine.close()


def test_pytest_never_starts_a_worker(tmp_path: Path) -> None:
    others = set(descendants(os.getpid()))  # of fixtures that other modules share
    app = Flask(__name__, instance_path=str(tmp_path))
    offload = Offload(app)

    @app.get("/")
    def index() -> str:
        return "hello"

    assert app.test_client().get("/").text == "hello"
    with app.test_request_context(environ_base={"SERVER_SOFTWARE": "a server"}):
        app.preprocess_request()
    assert set(descendants(os.getpid())) <= others
    offload.state_of(app).engine.close()


def test_a_worker_started_by_hand_beside_a_kept_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_site(tmp_path, monkeypatch) as site, site.gunicorn() as (url, _):
        http_post(f"{url}/add/1/2")
        wait_until(lambda: len(site.workers()) == 1, 20)
        with site.worker() as worker:
            assert sorted(found.kind for found in site.workers()) == ["command", "kept"]
            worker.send(signal.SIGTERM)
            assert worker.wait(20) == 0
        _check_idle(site)


def _check_idle(site: Site) -> None:
    assert [found.kind for found in site.workers()] == ["kept"]
