"""The sample app's worker, where no web process keeps one.

It leads a process group of its own, and takes it along when the lab ends, however the lab ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from flask.cli import main

from .offload import QUEUES

APP = "flask_offload_lab.sample_app.app:create_app"


def _leave_with_the_lab() -> None:
    # Not sys.stdin.read(): that holds a lock, and what is forked meanwhile could never close stdin.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_leave_with_the_lab, daemon=True).start()
    queues = [word for name in QUEUES for word in ("--queue", name)]
    sys.argv = ["flask", "--app", APP, "offload", "worker", "--in-this-process", *queues]
    main()
