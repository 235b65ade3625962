"""The lab with a quick mail server: `python lab_app.py [project=DIR] [user_app=APP]`."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from pathlib import Path

from flask_offload_lab.command import on_sigterm
from flask_offload_lab.mailserver import Pace
from flask_offload_lab.server import LabServer

QUICK = Pace(greeting=0.05, recipient=0.05, content=(0.4, 0.45))
"""Half a second for a mail: long beside a request, short beside a test."""


def main(*words: str) -> None:
    """Serve until SIGTERM. words: name=value, for project and user_app."""
    given = dict(word.split("=", 1) for word in words)
    project = Path(given["project"]) if "project" in given else None
    stop = threading.Event()
    signal.signal(signal.SIGTERM, functools.partial(on_sigterm, stop))
    user_app = given.get("user_app")
    with LabServer(port=0, project=project, user_app=user_app, pace=QUICK) as server:
        print(f"The lab: {server.origin}/", flush=True)
        server.serve(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
