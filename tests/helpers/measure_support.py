"""Real servers and the real browser for the tests of the measurements."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import urlopen

from werkzeug.serving import make_server

from flask_offload.measure import chromium
from measured_app import create_app
from proc import descendants
from support import APPS, missing, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@contextmanager
def gunicorn(*, workers: int = 1, threads: int = 1, block_s: float = 0.6) -> Iterator[str]:
    """The fixture app under a real gunicorn; yields its origin.

    The listening socket is made here, so requests wait in its queue until gunicorn accepts them.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        bind, options = f"fd://{listener.fileno()}", ["--preload", "--no-control-socket"]
        command = [sys.executable, "-m", "gunicorn", "measured_app:create_app()", "--bind", bind]
        command += ["--workers", str(workers), "--threads", str(threads), *options]
        command += ["--log-level", "warning"]
        environ = os.environ | {"EVIDENCE_BLOCK_S": str(block_s)}
        server = subprocess.Popen(command, cwd=APPS, env=environ, pass_fds=[listener.fileno()])
        try:
            wait_until(lambda: len(descendants(server.pid)) == workers, 30, "all workers")
            origin = f"http://127.0.0.1:{port}"
            with urlopen(origin, timeout=30) as response:  # a first request pays for the start
                response.read()
            yield origin
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def werkzeug_server() -> Iterator[str]:
    """The fixture app under the development server; yields its origin."""
    with serving(create_app()) as origin:
        yield origin


@contextmanager
def serving(application: WSGIApplication) -> Iterator[str]:
    """An application under the development server; yields its origin."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def require_chromium() -> None:
    """Skip, and say so, where there is no browser; in CI that is a failure."""
    try:
        import playwright.sync_api  # noqa: F401

        chromium.find()
    except (ImportError, chromium.BrowserUnavailable) as error:
        missing(f"browser tests need Playwright and a Chromium: {error}")
