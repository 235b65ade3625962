"""A system under torture: a database, a event log, and the real processes around them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from flask import Flask

from flask_offload import JobStatus
from flask_offload.admin.sqlite import SqliteEngine
from flask_offload.engines.store import WorkerInfo
from proc import alive, descendants, process_group
from support import Running, answers, free_port, http_request, running, wait_until

from . import HELPERS, ROOT
from .app import create_app
from .auditor import Audit, watch
from .event_log import VARIABLE, note, record_kill
from .stores import PostgresWorldStore, opened_store

PYTHON = sys.executable
APP = "torture.poison_tasks:create_app()"
"""The tortured app with all its tasks."""


class World:
    """Processes are started here, so that none is left when the block ends.

    database: where the SQLite database lies, if not in the folder. store: "sqlite" or "postgres".
    `env` goes to every process.
    """

    def __init__(
        self, folder: Path, database: Path | None = None, *, store: str = "sqlite", **env: Any
    ) -> None:
        self.folder = folder
        self.database = database or folder / "jobs.sqlite3"
        self.event_log = folder / "events"
        self.event_log.touch()
        self._opened = ExitStack()
        self.store = self._opened.enter_context(opened_store(store, self.database))
        self.engine = self.store.engine
        self.env = {
            **{f"FLASK_{name}": value for name, value in self.store.config.items()},
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            VARIABLE: str(self.event_log),
            # all, until the auditor has seen them, also those of a clock that is set by a day
            "FLASK_OFFLOAD_KEEP_COUNT": "1000000",
            "FLASK_OFFLOAD_KEEP_SUCCESSFUL": f"{30 * 86_400}",
            **env,
        }
        self._stack = ExitStack()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self.engine.close()
        self._opened.close()

    @property
    def sqlite(self) -> SqliteEngine:
        """The engine, in a scenario that is for SQLite alone."""
        assert isinstance(self.engine, SqliteEngine)
        return self.engine

    @property
    def postgres(self) -> PostgresWorldStore:
        """The store, in a scenario that is for PostgreSQL alone."""
        assert isinstance(self.store, PostgresWorldStore)
        return self.store

    # --- processes ---

    def start(
        self,
        argv: Sequence[str],
        *,
        ready: Callable[[Running], object] | str | None = None,
        timeout: float = 60.0,
        **env: Any,
    ) -> Running:
        """Start a program in the world's folder."""
        return self._stack.enter_context(
            running(argv, env={**self.env, **env}, cwd=self.folder, ready=ready, timeout=timeout)
        )

    def command(self, *arguments: str) -> list[str]:
        """A `flask offload` command."""
        return [PYTHON, "-m", "flask", "--app", APP, "offload", *arguments]

    def worker(self, *arguments: str, wait: bool = True, **env: Any) -> Running:
        """A `flask offload worker`; `wait`: until it is registered."""
        process = self.start(self.command("worker", "--log-level", "warning", *arguments), **env)
        if wait:
            self.wait_for_worker(process)
        return process

    def wait_for_worker(self, process: Running) -> WorkerInfo:
        """Until this worker is up."""

        def up() -> WorkerInfo | None:
            if process.popen.poll() is not None:
                raise AssertionError(f"the worker ended before it was up: {process}")
            found = [worker for worker in self.workers() if worker.pid == process.pid]
            return found[0] if found else None

        found = wait_until(up, 60, lambda: f"this worker to be up: {process}")
        assert found is not None
        return found

    def burst(self, *arguments: str, timeout: float = 120.0, **env: Any) -> None:
        """A worker that runs what there is, and ends."""
        process = self.worker("--burst", *arguments, wait=False, **env)
        code = process.wait(timeout)
        assert code == 0, str(process)

    def gunicorn(self, *arguments: str, **env: Any) -> Web:
        """gunicorn on a free port."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        bind = ["--bind", f"127.0.0.1:{port}", "--graceful-timeout", "10"]
        argv = [PYTHON, "-m", "gunicorn", *bind, *arguments, APP]
        process = self.start(argv, ready=lambda _: answers(f"{url}/"), **env)
        return Web(self, process, url)

    def enqueuer(self, count: int, seed: int, pause: float) -> Running:
        """A process that enqueues the mix."""
        return self.start([PYTHON, "-m", "torture.enqueuer", f"{count}", f"{seed}", f"{pause}"])

    # --- kills ---

    def kill(self, what: str, pid: int, *, alone: bool = False) -> float:
        """kill -9 a process, and note whose jobs may have died: its own and those of its children,
        who die with it unless it dies `alone`. When it was done (monotonic seconds)."""
        assert pid > 1, what
        began = time.monotonic()
        with suppress(ProcessLookupError):
            if not alone:
                os.kill(pid, signal.SIGSTOP)  # so that none is born after we have looked
            doomed = [pid] if alone else [pid, *descendants(pid)]
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            self._wait_for_death(what, doomed, began)
        return began

    def kill_group(self, what: str, leader: int) -> float:
        """kill -9 a process group: all that came from its leader, also the worker of a web process
        that is dead already."""
        began = time.monotonic()
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGSTOP)
            doomed = process_group(leader)
            began = time.monotonic()
            os.killpg(leader, signal.SIGKILL)
            self._wait_for_death(what, doomed, began)
        return began

    def _wait_for_death(self, what: str, doomed: list[int], began: float) -> None:
        wait_until(
            lambda: not any(map(alive, doomed)),
            10,
            lambda: f"{what}: {[pid for pid in doomed if alive(pid)]} to die",
        )
        record_kill(what, began, doomed, path=str(self.event_log))

    # --- looking ---

    def workers(self) -> list[WorkerInfo]:
        """The workers that hold their locks."""
        return list(self.engine.workers())

    def unfinished(self) -> int:
        """How many jobs are READY or RUNNING."""
        counts = self.engine.count()
        return counts[JobStatus.READY] + counts[JobStatus.RUNNING]

    def note(self, kind: str, *words: object) -> None:
        """Write a line into the event log."""
        note(kind, *words, path=str(self.event_log))

    def lines(self, kind: str) -> list[list[str]]:
        """The words of the event log's lines of this kind, from the time on."""
        found = (line.split() for line in self.event_log.read_text().splitlines())
        return [words[1:] for words in found if words[0] == kind]

    def wait_for_lines(self, kind: str, count: int, timeout: float = 60.0) -> list[list[str]]:
        """Until the log has so many lines of this kind."""

        def there() -> list[list[str]]:
            lines = self.lines(kind)
            return lines if len(lines) >= count else []

        return wait_until(there, timeout, lambda: f"{count} lines {kind!r}: {self.lines(kind)}")

    def quiesce(self, timeout: float) -> None:
        """Wait until no job is READY or RUNNING, or nothing has changed for so many seconds: the
        auditor says what is wrong then."""
        before, deadline = -1, time.monotonic() + timeout
        while (left := self.unfinished()) and time.monotonic() < deadline:
            if left != before:
                before, deadline = left, time.monotonic() + timeout
            time.sleep(0.05)

    def watch(self) -> None:
        """Have the auditor's notes taken in the database, from now on: see auditor.watch."""
        self.engine.count()  # makes the database, if it is not there yet
        watch(self.store.place)

    def close(self) -> None:
        """End all processes."""
        self._stack.close()

    def audit(self) -> Audit:
        """End all processes, and let the auditor look."""
        self.close()
        self.engine.close()
        argv = [PYTHON, "-m", "torture.auditor", self.store.place, str(self.event_log)]
        told = subprocess.run(
            argv, env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        if told.returncode:
            raise AssertionError(f"the auditor failed:\n{told.stderr}")
        return Audit(**json.loads(told.stdout))

    # --- enqueueing in this process ---

    @contextmanager
    def here(self, **config: object) -> Iterator[Flask]:
        """An app context of the tortured app in this process, which runs no jobs."""
        os.environ[VARIABLE] = str(self.event_log)
        app = create_app(**{**self.store.config, "OFFLOAD_WORKER": "off", **config})
        try:
            with app.app_context():
                yield app
                app.extensions["offload"].state_of(app).engine.close()
        finally:
            del os.environ[VARIABLE]


class Web:
    """A web server, and a client that keeps asking it.

    errors: what the client got that no client should get. refused: how often it was refused (503)
    that the job can't be taken just now.
    """

    def __init__(self, world: World, process: Running, url: str) -> None:
        self.world, self.process, self.url = world, process, url
        self.requests = 0
        self.refused = 0
        self.errors: list[str] = []

    def post(self, path: str = "/quick") -> None:
        """Have a job enqueued; note it when the server has accepted it. ("/slowly/…" enqueues none:
        it is answered with 200.)"""
        self.requests += 1
        try:
            response = http_request("POST", self.url + path, timeout=30)
        except (OSError, HTTPException) as error:  # killed, perhaps in the middle of its answer
            self.errors.append(f"{type(error).__name__}: {error}")
            return
        if response.status == 202:
            job_id = response.headers["Location"].rpartition("/")[2]
            note("accepted", job_id, path=str(self.world.event_log))
        elif response.status == 503:
            self.refused += 1
        elif response.status != 200 or not path.startswith("/slowly/"):
            self.errors.append(f"{response.status} {response.text[:200]}")

    @contextmanager
    def client(self, path: str = "/quick", pause: float = 0.02, threads: int = 1) -> Iterator[None]:
        """Post again and again, until the block ends."""
        stop = threading.Event()

        def ask() -> None:
            while not stop.wait(pause):
                self.post(path)

        clients = [threading.Thread(target=ask, daemon=True) for _ in range(threads)]
        for thread in clients:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in clients:
                thread.join()
