"""The club's web server: one thread, like a web server with one sync worker.

Started by the lab as `python -m flask_offload.lab.club FD`, where FD is a socket that listens.
The lab keeps that socket too, as the master of gunicorn does: so the address stays the same over a
`kill -9`, and whoever comes in between waits instead of being refused.
"""

from __future__ import annotations

import os
import sys
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

from .app import create_app

IDLE = 1.0
"""Seconds that a connection may stay silent. Browsers open some ahead that they never use, and one
thread can wait only for one."""


class Handler(WSGIRequestHandler):
    """Quiet, and impatient with connections that say nothing."""

    timeout = IDLE

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The lab shows what happens; the terminal stays free for its table."""


def leave_with_the_lab() -> None:
    """Wait until the lab has closed its end of our standard input, then end this process."""
    sys.stdin.read()
    os._exit(0)


def serve(fd: int) -> None:
    """Serve until the end of the process."""
    threading.Thread(target=leave_with_the_lab, daemon=True).start()
    server = make_server(
        "127.0.0.1", 0, create_app(), threaded=False, request_handler=Handler, fd=fd
    )
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
