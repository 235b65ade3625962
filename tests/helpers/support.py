"""What tests share: bounded waits, real processes, HTTP requests, programs that must be there."""

from __future__ import annotations

import http.client
import json as jsonlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode, urlsplit

import pytest

from proc import alive, descendants, processes_marked

T = TypeVar("T")

# --- waiting -----------------------------------------------------------------------------------


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, message: str | Callable[[], str] = ""
) -> T:
    """Return the predicate's first true value, or fail with the message after `timeout` seconds.

    A callable message is asked at the end, so that it can tell the last state.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not (value := predicate()):
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"waited {timeout:g} s in vain: {text or predicate}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return value


# --- what the machine must have ----------------------------------------------------------------

APPS = Path(__file__).parents[1] / "apps"
"""The apps that tests serve, run or import."""
APP_PATH = os.pathsep.join([str(APPS), str(Path(__file__).parent)])
"""PYTHONPATH for a process that imports one of them."""

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

# Debian keeps servers where a user's PATH does not look.
_SERVER_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"]
_SERVER_FOLDERS += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
_OWN_FOLDER = str(Path(sys.executable).parent)
SEARCH_PATH = os.pathsep.join([_OWN_FOLDER, os.environ.get("PATH", os.defpath), *_SERVER_FOLDERS])


def in_ci() -> bool:
    """Whether nothing may be skipped."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_tool(*names: str) -> str | None:
    """The path of the first of these programs that is installed."""
    return next(filter(None, (shutil.which(name, path=SEARCH_PATH) for name in names)), None)


def require_tool(*names: str) -> str:
    """The path of the first of these programs; without any, skip the test, or fail it in CI."""
    return find_tool(*names) or missing(f"{' or '.join(names)} is not installed (make test does)")


def missing(reason: str) -> NoReturn:
    """Skip this test because the machine lacks something; fail it in CI, where it must be there."""
    if in_ci():
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


NOT_PROMISED = "not promised: "


def not_promised(reason: str) -> NoReturn:
    """Skip a case that does not apply (an engine's flag rules it out): the one skip CI accepts."""
    pytest.skip(NOT_PROMISED + reason)


# --- processes ---------------------------------------------------------------------------------


def kill9(pid: int, timeout: float = 10.0) -> None:
    """Kill a process as `kill -9` does, and wait until it is dead (perhaps a zombie still)."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), timeout, f"{pid} to die of SIGKILL")


@dataclass
class Running:
    """A program that `running` started, in a session of its own."""

    argv: list[str]
    popen: subprocess.Popen[bytes]
    log: Path
    mark: str
    _kept: str | None = None

    @property
    def pid(self) -> int:
        """The process id of the program itself, which leads its process group."""
        return self.popen.pid

    def output(self) -> str:
        """What it and its children have printed so far, errors included."""
        return self.log.read_text(errors="replace") if self._kept is None else self._kept

    def family(self) -> list[int]:
        """Every live process that came from it, orphans and daemons included."""
        return sorted({*processes_marked(self.mark), *descendants(self.pid)} - {self.pid})

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Wait until the output contains the text; fail at once if the program ends first."""

        def seen() -> bool:
            ended = self.popen.poll() is not None
            found = text in self.output()
            if ended and not found:
                raise AssertionError(f"no {text!r} before the end of {self}")
            return found

        wait_until(seen, timeout, lambda: f"{text!r} in the output of {self}")

    def wait(self, timeout: float = 30.0) -> int:
        """Wait until it has ended; its exit code."""
        wait_until(lambda: self.popen.poll() is not None, timeout, lambda: f"the end of {self}")
        return self.popen.wait()

    def send(self, signum: int) -> None:
        """Send a signal to the program alone."""
        self.popen.send_signal(signum)

    def stop(self, timeout: float = 30.0) -> int:
        """Ask it to end (SIGTERM) and wait; its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(timeout)

    def kill_family(self) -> None:
        """Kill the program and every process that came from it, and wait until they are gone."""
        with suppress(ProcessLookupError, PermissionError):  # none, or zombies only, are left
            os.killpg(self.pid, signal.SIGKILL)
        while members := [pid for pid in (self.pid, *self.family()) if alive(pid)]:
            for pid in members:
                kill9(pid)
        self.popen.wait()
        self._kept = self.output()

    def __str__(self) -> str:
        code = self.popen.poll()
        state = f"process {self.pid}" if code is None else f"exit code {code}"
        printed = self.output()[-4000:] or "(nothing)"
        return f"`{shlex.join(self.argv)}` ({state}), which printed:\n{printed}"


Ready = str | Callable[[Running], object]


@contextmanager
def running(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    ready: Ready | None = None,
    timeout: float = 30.0,
    grace: float = 10.0,
) -> Iterator[Running]:
    """Run a real program until the block ends: `with running([sys.executable, "-m", "flask", …])`.

    env adds to this process's environment. ready is a text to wait for in the output, or a callable
    that is true when the program is up (it is asked for at most `timeout` seconds). At the end the
    program gets SIGTERM, `grace` seconds later SIGKILL, and so does whatever it has left behind.
    """
    mark = f"RUNNING_MARK={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {}), name: value}
    words = [os.fspath(word) for word in argv]
    with tempfile.NamedTemporaryFile(prefix="running-", suffix=".log") as log:
        popen = subprocess.Popen(
            words,
            env=variables,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        process = Running(words, popen, Path(log.name), mark)
        try:
            _wait_until_ready(process, ready, timeout)
            yield process
            if popen.poll() is None:
                popen.terminate()
                with suppress(subprocess.TimeoutExpired):
                    popen.wait(grace)
        finally:
            process.kill_family()


def _wait_until_ready(process: Running, ready: Ready | None, timeout: float) -> None:
    if isinstance(ready, str):
        process.wait_for(ready, timeout)
    elif ready is not None:

        def up() -> object:
            if process.popen.poll() is not None:
                raise AssertionError(f"it ended before it was up: {process}")
            return ready(process)

        wait_until(up, timeout, lambda: f"this to be up: {process}")


# --- HTTP --------------------------------------------------------------------------------------


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether somebody accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Response:
    """One answer, redirects not followed. Header names are found in any case."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return jsonlib.loads(self.body)


def http_request(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    form: Mapping[str, str] | None = None,
    json: object = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Response:
    """One request over a connection of its own; `form` or `json` make the body."""
    sent = {"Connection": "close", **(headers or {})}
    if form is not None:
        body = urlencode(form).encode()
        sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
    elif json is not None:
        body = jsonlib.dumps(json).encode()
        sent.setdefault("Content-Type", "application/json")
    parts = urlsplit(url)
    target = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request(method, target, body=body, headers=sent)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def http_get(
    url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0
) -> Response:
    """GET."""
    return http_request("GET", url, headers=headers, timeout=timeout)


def answers(url: str) -> bool:
    """Whether a server answers there with 200; False while it is starting."""
    try:
        return http_get(url).status == 200
    except OSError:
        return False


def http_post(
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    json: object = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> Response:
    """POST, an empty body unless `form` or `json` is given."""
    return http_request("POST", url, form=form, json=json, headers=headers, timeout=timeout)
