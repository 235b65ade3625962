"""The lab behind a quick mail server, as the tests run it: `python lab_app.py [--build DIR] …`."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from pathlib import Path

from flask_offload_lab.command import leave
from flask_offload_lab.mailserver import Pace
from flask_offload_lab.server import Show

QUICK = Pace(greeting=0.05, recipient=0.05, content=(0.4, 0.45))
"""Half a second for a mail: long beside a request, short beside a test."""


def main(*words: str) -> None:
    """Serve until SIGTERM. words: name=value, for project and guest."""
    given = dict(word.split("=", 1) for word in words)
    project = Path(given["project"]) if "project" in given else None
    told_to_end = threading.Event()
    signal.signal(signal.SIGTERM, functools.partial(leave, told_to_end))
    with Show(port=0, project=project, guest=given.get("guest"), pace=QUICK) as show:
        print(f"The lab: {show.origin}/", flush=True)
        show.serve(told_to_end)


if __name__ == "__main__":
    main(*sys.argv[1:])
