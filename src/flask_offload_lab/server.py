"""The lab as a whole: the table, and the web server for the lesson."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from .building import prepare
from .demo import Table, claims, measure, render
from .errors import Exposed, PortTaken
from .listen import PORT, listen
from .mailserver import Pace
from .site import create_lab
from .site.lab import Lab
from .testbed import Bench
from .user_app_server import GuestServer

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("", "0.0.0.0", "::")


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The terminal belongs to the table."""


class Show:
    """Use it in a `with` block; it owns every process and every file of the lab.

    port: None takes the usual one, or a free one if that is taken; 0 takes a free one.
    project: the folder of the reader's project. guest: an app of the reader's to check. pace: of
    the mail server.
    Raises Exposed, PortTaken, and what Bench raises.
    """

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int | None = None,
        *,
        expose: bool = False,
        project: Path | None = None,
        guest: str | None = None,
        pace: Pace | None = None,
    ) -> None:
        if host != LOOPBACK and (not expose or host in EVERYWHERE or project or guest):
            raise Exposed
        if project is not None:
            project = prepare(project)
        self._guest = guest
        self._listening = _listen(host, port)
        self.origin = f"http://{host}:{self._listening.getsockname()[1]}"
        self._lab = Lab(Bench(self.origin, pace, host=host), project=project)

    def __enter__(self) -> Show:
        with ExitStack() as stack:
            stack.callback(self._listening.close)
            stack.enter_context(self._lab.bench)
            if self._guest is not None:
                folder = stack.enter_context(TemporaryDirectory(prefix="offload-guest-"))
                self._lab.guest = GuestServer(self._guest, Path(folder))
                stack.enter_context(self._lab.guest)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def measure(self, say: Callable[[str], None]) -> None:
        """Make the table; takes less than a minute."""
        self._lab.table = measure(self._lab.bench, say)

    @property
    def table(self) -> Table:
        """What `measure` measured."""
        if self._lab.table is None:
            raise RuntimeError("measure() comes first")
        return self._lab.table

    @property
    def held(self) -> bool:
        """Whether all claims held."""
        return self.table.held

    def text(self) -> str:
        """The table for a terminal."""
        return render(self.table)

    def figures(self) -> dict[str, Any]:
        """The table for programs."""
        rows = [
            {
                "route": f"/{row.pattern}",
                "p50_ms": row.route.p50_ms,
                "p99_ms": row.route.p99_ms,
                "innocent_p50_ms": row.innocent.p50_ms,
                "innocent_p99_ms": row.innocent.p99_ms,
                "killed": {
                    "answered": row.survival.answered,
                    "done": row.survival.done,
                    "lost": row.survival.lost,
                },
            }
            for row in self.table.rows
        ]
        told = [{"claim": claim.text, "held": claim.held} for claim in claims(self.table)]
        return {"engine": self.table.engine, "rows": rows, "claims": told}

    def serve(self, told_to_end: threading.Event) -> None:
        """Serve the lesson until the process is told to end, by this event or by an exception."""
        app = create_lab(self._lab, self.origin)
        server = make_server(
            LOOPBACK, 0, app, threaded=True, request_handler=_Quiet, fd=self._listening.fileno()
        )
        serving = threading.Thread(target=server.serve_forever, name="lab", daemon=True)
        serving.start()
        try:
            told_to_end.wait()
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
