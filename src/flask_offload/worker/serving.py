"""Whether this process serves an app, so that its jobs need a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType

from flask import has_request_context, request

SERVERS = frozenset(
    {
        *("gunicorn.arbiter", "waitress.server", "uwsgi", "mod_wsgi", "cheroot.wsgi"),
        *("gevent.pywsgi", "eventlet.wsgi", "tornado.httpserver", "uvicorn.server", "bjoern"),
        *("hypercorn.run", "hypercorn.asyncio", "daphne.server", "granian.server"),
    }
)
"""Modules that only a process which serves an app has loaded."""

LOOPS = frozenset(
    {
        *(("gunicorn/arbiter.py", "spawn_worker"), ("waitress/server.py", "run")),
        *(("werkzeug/serving.py", "serve_forever"), ("uvicorn/server.py", "run")),
        *(("uvicorn/server.py", "serve"), ("cheroot/server.py", "serve")),
        *(("gevent/baseserver.py", "serve_forever"), ("socketserver.py", "serve_forever")),
        *(("hypercorn/run.py", "run"), ("tornado/platform/asyncio.py", "start")),
        *(("daphne/server.py", "run"), ("granian/server.py", "_spawn_worker")),
    }
)
"""Functions that run for as long as their server serves: the end of the file's path, the name."""

TEST_CLIENT = "werkzeug.debug.preserve_context"
"""In the environ of requests by Flask's test client."""


def is_unknown_server_request() -> bool:
    """Whether a request is being handled that no known server has made, nor the test client."""
    return has_request_context() and not {"SERVER_SOFTWARE", TEST_CLIENT} & request.environ.keys()


def has_server() -> bool:
    """Whether the module of a known server is loaded."""
    return not SERVERS.isdisjoint(sys.modules)


def is_serving() -> bool:
    """Whether a known server's loop runs now, in any thread of this process."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        return bool(uwsgi.worker_id())
    return any(_is_loop(frame) for frame in _frames())


def is_forking_server() -> bool:
    """Whether this is gunicorn's first process, which loads the app for its workers (--preload)."""
    names = {frame.f_code.co_name for frame in _frames() if _is_arbiter(frame)}
    return bool(names) and "spawn_worker" not in names


def _frames() -> Iterator[FrameType]:
    for frame in sys._current_frames().values():
        here: FrameType | None = frame
        while here is not None:
            yield here
            here = here.f_back


def _is_loop(frame: FrameType) -> bool:
    code = frame.f_code
    path = code.co_filename.replace(os.sep, "/")
    return any(code.co_name == name and path.endswith("/" + file) for file, name in LOOPS)


def _is_arbiter(frame: FrameType) -> bool:
    return frame.f_code.co_filename.replace(os.sep, "/").endswith("gunicorn/arbiter.py")
