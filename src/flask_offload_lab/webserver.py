"""A web server with one thread, in a process of its own, on an address that outlives it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from .errors import ServerDown
from .listen import listen
from .processes import Process, descendants, end, is_running, kill_now

START = 30.0
"""Seconds that the process may take until it answers; it takes about half a second."""

STOP = 10.0
"""Seconds that processes may take to leave when asked to."""

LAST_WORDS = 12
"""Lines of its log that are shown when it did not start."""


class WebServer:
    """A Python module that serves an app on the socket whose number is its first argument.

    Use it in a `with` block. log: the file for what its processes say. Raises ServerDown.
    """

    def __init__(
        self,
        arguments: list[str],
        environ: Mapping[str, str],
        log: Path,
        host: str = "127.0.0.1",
    ) -> None:
        self._host = host
        self._arguments = arguments
        self._environ = environ
        self._log = log
        self._listening = listen(0, host)
        self.port: int = self._listening.getsockname()[1]
        self.origin = f"http://{host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

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

    @property
    def pid(self) -> int:
        """The web process."""
        if self._process is None:
            raise ServerDown("The web server is not running.")
        return self._process.pid

    def below(self) -> list[Process]:
        """The processes that it has started, such as its worker; parents come before children."""
        return [] if self._process is None else descendants(self._process.pid)

    def start(self) -> None:
        """Start the process and wait until it answers. Raises ServerDown with its last words."""
        fd = self._listening.fileno()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._arguments[0], str(fd), *self._arguments[1:]],
                stdin=subprocess.PIPE,  # it leaves when this end is closed, however the lab ends
                stdout=log,
                stderr=log,
                pass_fds=[fd],
                env=os.environ | self._environ,
            )
        deadline = time.monotonic() + START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise self.down(str(ServerDown.__doc__))

    def down(self, reason: str) -> ServerDown:
        """The error for that reason, with the last words in the log."""
        said = self._log.read_text(errors="replace").strip().splitlines()
        return ServerDown("\n".join([reason, *said[-LAST_WORDS:]]))

    def _answers(self) -> bool:
        try:
            return self.get("/", timeout=1.0) > 0
        except (OSError, HTTPException):
            return False

    def get(self, path: str, timeout: float = 30.0) -> int:
        """Ask for a page and give its status. Raises OSError or http.client.HTTPException."""
        connection = HTTPConnection(self._host, self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def kill(self, *, also: list[int]) -> list[int]:
        """`kill -9` of the web process, and of others at the same moment; gives all their pids."""
        pids = [self.pid, *also]
        kill_now(pids)
        self._reap()
        return pids

    def stop(self) -> None:
        """End the process, and see to it that those that it started leave too."""
        if self._process is None:
            return
        below, pid = self.below(), self.pid
        others = [process.pid for process in below]
        self._process.terminate()
        for process in below:
            if process.parent == pid:  # a worker would wait a while for the next web process
                end(process.pid)
        self._reap()
        deadline = time.monotonic() + STOP
        while any(map(is_running, others)) and time.monotonic() < deadline:
            time.sleep(0.02)
        kill_now(others)

    def _reap(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.wait(STOP)
        self._process.stdin.close()
        self._process = None
