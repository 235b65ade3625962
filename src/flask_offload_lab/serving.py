"""What a process of `webserver.py` runs: one thread serves one request after the other."""

from __future__ import annotations

import os
import sys
import threading

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

IDLE = 1.0
"""Seconds that a connection may stay silent: one thread can wait for only one of them."""


class _Handler(WSGIRequestHandler):
    timeout = IDLE

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The log is for findings."""


def serve(app: Flask, fd: int) -> None:
    """Serve on the listening socket `fd` until the end of the process, or of the one that keeps
    our standard input open."""
    threading.Thread(target=_leave_with_the_lab, daemon=True).start()
    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=_Handler, fd=fd)
    server.serve_forever()


def _leave_with_the_lab() -> None:
    sys.stdin.read()
    os._exit(0)
