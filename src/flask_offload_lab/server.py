"""The lab's own process: the web server of the lesson, and everything that it measures on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from werkzeug.serving import make_server

from . import PORT
from .demo import DemoTable, measure
from .errors import Exposed, PortTaken
from .mailserver import Pace
from .project import prepare
from .site import create_lab
from .site.lab import Lab
from .testbed import LabTestbed
from .user_app import UserAppServer
from .webserver import QuietHandler, listen

LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = ("", "0.0.0.0", "::")


class LabServer:
    """Use it in a `with` block; it owns every process and every file of the lab.

    port: None takes the default, or a free one if that is taken; 0 takes a free one.
    project: the folder of the reader's project. user_app: an app of the reader's to check. pace: of
    the mail server.
    Raises Exposed, PortTaken, and what LabTestbed raises.
    """

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int | None = None,
        *,
        expose: bool = False,
        project: Path | None = None,
        user_app: str | None = None,
        pace: Pace | None = None,
    ) -> None:
        if host != LOOPBACK and (not expose or host in EVERY_ADDRESS or project or user_app):
            raise Exposed
        if project is not None:
            project = prepare(project)
        self._user_app = user_app
        self._listening = _listen(host, port)
        self.origin = f"http://{host}:{self._listening.getsockname()[1]}"
        self._lab = Lab(LabTestbed(self.origin, pace, host=host), project=project)

    def __enter__(self) -> LabServer:
        with ExitStack() as stack:
            stack.callback(self._listening.close)
            stack.enter_context(self._lab.testbed)
            if self._user_app is not None:
                folder = stack.enter_context(TemporaryDirectory(prefix="offload-user-app-"))
                self._lab.user_app = UserAppServer(self._user_app, Path(folder))
                stack.enter_context(self._lab.user_app)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def measure(self, report: Callable[[str], None]) -> DemoTable:
        """Measure the table; takes less than a minute. report: called with what comes next."""
        self._lab.table = measure(self._lab.testbed, report)
        return self._lab.table

    def serve(self, stop: threading.Event) -> None:
        """Serve the lesson until `stop` is set, or an exception ends it."""
        app = create_lab(self._lab, self.origin)
        fd = self._listening.fileno()
        server = make_server(LOOPBACK, 0, app, threaded=True, request_handler=QuietHandler, fd=fd)
        serving = threading.Thread(target=server.serve_forever, name="lab", daemon=True)
        serving.start()
        try:
            stop.wait()
        finally:
            server.shutdown()
            serving.join()


def _listen(host: str, port: int | None) -> socket.socket:
    try:
        return listen(PORT if port is None else port, host)
    except OSError as error:
        if port is None:
            return listen(0, host)
        raise PortTaken(f"{host}:{port}: {error.strerror}. {PortTaken.__doc__}") from None
