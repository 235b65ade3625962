"""Workers without the wait for their imports: forked from a process that has loaded all of Celery.

A worker takes two seconds to import what it needs, and the contract suite starts a hundred. Each is
still a process of its own, which reads its settings from its environment and makes its own app.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proc import alive, descendants
from support import APP_PATH, kill9, running, wait_until

PRELOADED = ("celery.apps.worker", "celery.concurrency.prefork", "contract_app", "celery_app")


@dataclass
class Forked:
    """A `flask …` command in a process that the worker_process has forked."""

    pid: int
    log: Path

    def output(self) -> str:
        """What it and its children have printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Wait until the output contains the text."""
        wait_until(lambda: text in self.output(), timeout, lambda: f"{text!r} in {self}")

    def wait(self, timeout: float = 30.0) -> None:
        """Wait until it has ended."""
        wait_until(lambda: not alive(self.pid), timeout, lambda: f"the end of {self}")

    def send(self, signum: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, signum)

    def kill_family(self) -> None:
        """Kill it and its children, all at once."""
        for pid in [self.pid, *descendants(self.pid)]:
            kill9(pid)

    def __str__(self) -> str:
        return f"worker {self.pid}, which printed:\n{self.output()[-4000:]}"


class Workshop:
    """Forks workers; made by `open_workshop`."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._number = 0

    @contextmanager
    def flask(self, *arguments: str, env: Mapping[str, str], cwd: Path) -> Iterator[Forked]:
        """Run `flask …` until the block ends; then it is killed if it has not ended."""
        self._number += 1
        log = self._folder / f"{self._number}.log"
        log.touch()
        order = {"argv": arguments, "env": dict(env), "cwd": str(cwd), "log": str(log)}
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self._path))
            line.sendall(json.dumps(order).encode() + b"\n")
            pid = int(line.makefile().readline())
        forked = Forked(pid, log)
        try:
            yield forked
        finally:
            forked.kill_family()


@contextmanager
def open_workshop(folder: Path) -> Iterator[Workshop]:
    """The process that forks, until the block ends."""
    path = folder / "orders"
    with running(
        [sys.executable, __file__, str(path)],
        env={"PYTHONPATH": APP_PATH},
        ready=lambda _: path.exists(),
    ):
        yield Workshop(folder, path)


def _serve(path: str) -> None:
    """The worker_process's own life: an order, a fork, its pid."""
    for module in PRELOADED:
        __import__(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # dead children are reaped at once
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path + ".new")
        door.listen()
        os.rename(path + ".new", path)
        while True:
            line, _ = door.accept()
            with line:
                order = json.loads(line.makefile().readline())
                pid = os.fork()
                if pid == 0:
                    door.close()
                    _become(**order)
                line.sendall(f"{pid}\n".encode())


def _become(argv: list[str], env: dict[str, str], cwd: str, log: str) -> None:
    from flask.cli import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(cwd)
    os.environ.update(env)
    code: object = 1
    try:
        sys.argv = ["flask", *argv]
        main()
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
