"""The club's processes, seen from the lab: start them, `kill -9` them, start them again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from .club.settings import Settings
from .errors import ClubDown
from .listen import listen
from .processes import descendants, kill_now

START = 30.0
"""Seconds that the web process may take until it answers; it takes about half a second."""

STOP = 10.0
"""Seconds that processes may take to leave when asked to."""

WORKER = "offload worker"
"""What the command line of a worker says."""


class ClubServer:
    """The club behind a web server with one thread, and the worker that its keeper starts.

    Use it in a `with` block. The address stays the same over every restart.
    """

    def __init__(self, folder: Path, smtp_port: int, lab_origin: str) -> None:
        self._listening = listen()
        self.port: int = self._listening.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.settings = Settings(folder, smtp_port, self.origin, lab_origin)
        self._web: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ClubServer:
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
    def web_pid(self) -> int:
        """The web process."""
        if self._web is None:
            raise ClubDown("The club's web server is not running.")
        return self._web.pid

    def workers(self) -> list[int]:
        """The worker's processes, its supervisor first; empty if there is none."""
        if self._web is None:
            return []
        return [process.pid for process in descendants(self._web.pid) if WORKER in process.command]

    def start(self) -> None:
        """Start the web process and wait until it answers. Raises ClubDown."""
        fd = self._listening.fileno()
        with self.settings.log.open("ab") as log:
            self._web = subprocess.Popen(
                [sys.executable, "-m", "flask_offload.lab.club", str(fd)],
                stdin=subprocess.PIPE,  # it leaves when this end is closed, however the lab ends
                stdout=log,
                stderr=log,
                pass_fds=[fd],
                env=os.environ | self.settings.environ(),
            )
        deadline = time.monotonic() + START
        while not self.answers(timeout=1.0):
            if self._web.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = self.settings.log.read_text(errors="replace").strip().splitlines()
                raise ClubDown("\n".join([str(ClubDown.__doc__), *said[-12:]]))

    def answers(self, timeout: float) -> bool:
        """Whether the innocent page comes within `timeout` seconds."""
        try:
            return self.get("/", timeout) == 200
        except (OSError, HTTPException):
            return False

    def get(self, path: str, timeout: float = 30.0) -> int:
        """Ask for a page and give its status. Raises OSError or http.client.HTTPException."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def kill_web(self) -> int:
        """`kill -9` of the web process alone; gives its former pid."""
        pid = self.web_pid
        kill_now([pid])
        self._reap()
        return pid

    def kill_worker(self) -> list[int]:
        """`kill -9` of the worker, supervisor and children; gives their former pids."""
        pids = self.workers()
        kill_now(pids)
        return pids

    def kill_all(self) -> list[int]:
        """`kill -9` of everything at once, as when the machine takes the power from a container."""
        pids = [self.web_pid, *self.workers()]
        kill_now(pids)
        self._reap()
        return pids

    def stop(self) -> None:
        """End the web process, and see to it that the worker leaves too."""
        if self._web is None:
            return
        workers = self.workers()
        self._web.terminate()
        self._reap()
        deadline = time.monotonic() + STOP
        while any(map(_is_running, workers)) and time.monotonic() < deadline:
            time.sleep(0.02)
        kill_now(workers)

    def _reap(self) -> None:
        assert self._web is not None
        assert self._web.stdin is not None
        self._web.wait(STOP)
        self._web.stdin.close()
        self._web = None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
