"""The sample app's processes, as the lab starts them.

`python -m flask_offload_lab.sample_app FD` is the web process; FD is the number of a listening
socket. Without FD it is the worker, for engines whose worker no web process keeps.
"""

from __future__ import annotations

import sys

from flask.cli import main

from ..webserver import end_with_the_lab, serve
from .app import create_app
from .settings import QUEUES

APP = "flask_offload_lab.sample_app.app:create_app"


def work() -> None:
    """Run the sample app's jobs in this process."""
    end_with_the_lab()
    queues = [word for name in QUEUES for word in ("--queue", name)]
    sys.argv = ["flask", "--app", APP, "offload", "worker", "--in-this-process", *queues]
    main()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(create_app(), int(sys.argv[1]))
    else:
        work()
