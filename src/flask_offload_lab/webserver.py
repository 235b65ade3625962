"""Processes that the lab starts and kills: web servers with one thread, and workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from .errors import ServerDown
from .processes import Process, descendants, is_running, kill_now, send_signal

START_TIMEOUT = 30.0
"""Seconds that a web server may take until it answers; it takes about half a second."""

STOP_TIMEOUT = 10.0
"""Seconds that processes may take to end after SIGTERM."""

LOG_LINES = 12
"""Lines of a process's log that are shown when it did not start."""

IDLE_TIMEOUT = 1.0
"""Seconds that a connection may stay silent: one thread can wait for only one of them."""


def listen(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises OSError if the port is taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        # Linux: a connection is accepted only after its first bytes. Browsers open some in advance
        # that they never use, and a server with one thread would wait for those.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    listening.listen(128)
    return listening


class QuietHandler(WSGIRequestHandler):
    """Logs no requests."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class _OneThreadHandler(QuietHandler):
    timeout = IDLE_TIMEOUT


def serve(app: Flask, fd: int) -> None:
    """Serve the app with one thread on the listening socket `fd`, until the process ends."""
    end_with_the_lab()
    server = make_server(
        "127.0.0.1", 0, app, threaded=False, request_handler=_OneThreadHandler, fd=fd
    )
    server.serve_forever()


def end_with_the_lab() -> None:
    """Kill this process's group when the lab ends, for whatever reason: that closes the pipe that
    is this process's standard input."""

    def wait() -> None:
        # Not sys.stdin.read(): it holds a lock that a forked process would inherit.
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


class ChildProcess:
    """A Python module in a process of its own, which leads a process group.

    arguments: the module and what follows it. environ: added to the lab's own. log: the file for
    its output. stop_timeout: seconds that `stop` waits after SIGTERM.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        stop_timeout: float = STOP_TIMEOUT,
    ) -> None:
        self._arguments = arguments
        self._environ = environ
        self._log = log
        self._stop_timeout = stop_timeout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id. Raises ServerDown if it was not started."""
        if self._process is None:
            raise ServerDown(f"{self._arguments[0]} is not running.")
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def below(self) -> list[Process]:
        """The processes that it has started, such as a worker; parents come before children."""
        return [] if self._process is None else descendants(self._process.pid)

    def start(self, pass_fds: Collection[int] = ()) -> None:
        """Start the process, after stopping the one before."""
        ChildProcess.stop(self)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                stdin=subprocess.PIPE,  # see end_with_the_lab()
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
                env=os.environ | self._environ,
                start_new_session=True,
            )

    def kill(self, also: Collection[int] = ()) -> list[int]:
        """`kill -9` the process, and others at the same moment; gives all their pids."""
        pids = [self.pid, *also]
        kill_now(pids)
        self._reap()
        return pids

    def stop(self) -> None:
        """End the process and those that it started: SIGTERM, then `kill -9`."""
        if self._process is None:
            return
        others = [process.pid for process in self.below()]
        # its children too: a worker would wait some time for the next web process
        children = [process.pid for process in self.below() if process.parent == self.pid]
        send_signal([self.pid, *children], signal.SIGTERM)
        deadline = time.monotonic() + self._stop_timeout
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._stop_timeout)
        while any(map(is_running, others)) and time.monotonic() < deadline:
            time.sleep(0.02)
        kill_now(others)
        with suppress(ProcessLookupError):  # the group is empty
            os.killpg(self.pid, signal.SIGKILL)
        self._reap()

    def error(self, reason: str) -> ServerDown:
        """The error for that reason, with the last lines of the log."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return ServerDown("\n".join([reason, *lines[-LOG_LINES:]]))

    def _reap(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.wait()
        self._process.stdin.close()
        self._process = None


class WebServer(ChildProcess):
    """A module that calls `serve` on the socket whose number is its first argument.

    Use it in a `with` block. The lab keeps the socket open, as the master of gunicorn does: the
    address stays the same over a `kill -9`, and new connections wait instead of being refused.
    Raises ServerDown.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        host: str = "127.0.0.1",
    ) -> None:
        self._host = host
        self._listening = listen(0, host)
        self.port: int = self._listening.getsockname()[1]
        self.origin = f"http://{host}:{self.port}"
        super().__init__([module, str(self._listening.fileno()), *arguments], environ, log)

    def __enter__(self) -> WebServer:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._listening.close()

    def start(self, pass_fds: Collection[int] = ()) -> None:
        """Start the process and wait until it answers. Raises ServerDown with the log's end."""
        super().start([self._listening.fileno(), *pass_fds])
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self.has_ended or time.monotonic() > deadline:
                self.stop()
                raise self.error(str(ServerDown.__doc__))

    def _answers(self) -> bool:
        try:
            return self.get("/", timeout=1.0) > 0
        except (OSError, HTTPException):
            return False

    def get(self, path: str, timeout: float = 30.0) -> int:
        """The status of a page. Raises OSError or http.client.HTTPException."""
        connection = HTTPConnection(self._host, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
