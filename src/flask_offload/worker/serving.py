"""Whether this process serves an app, so that its jobs need a worker."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import chain
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

GRANIAN = ("wsgi", "asgi", "asgi_lifespan", "rsgi")
LOOPS = frozenset(
    {
        *(("gunicorn/arbiter.py", "spawn_worker"), ("waitress/server.py", "run")),
        *(("werkzeug/serving.py", "serve_forever"), ("uvicorn/server.py", "run")),
        *(("uvicorn/server.py", "serve"), ("cheroot/server.py", "serve")),
        *(("gevent/baseserver.py", "serve_forever"), ("socketserver.py", "serve_forever")),
        *(("hypercorn/run.py", "run"), ("tornado/platform/asyncio.py", "start")),
        *(("daphne/server.py", "run"), ("eventlet/wsgi.py", "server")),
        *(("hypercorn/asyncio/run.py", "_run"), ("hypercorn/trio/run.py", "trio_worker")),
        *(("granian/server/mp.py", f"_spawn_{kind}_worker") for kind in GRANIAN),
    }
)
"""Functions that run for as long as their server serves: the end of the file's path, the name."""

ASYNCIO = "asyncio/base_events.py", "run_forever"
TORNADO = {"tornado.httpserver", "tornado.wsgi"}
"""With both loaded, a running event loop of asyncio is that of a server."""
LEAVE_SIGTERM = {"waitress.server", "tornado.httpserver", "uvicorn.server"}
"""Servers that have no handler of SIGTERM of their own, or restore the one that was there, and that
end in order when the main thread gets SystemExit."""
IMPORTING = "<frozen importlib"
"""The file of frames that import a module: a server may import the app inside of its loop."""

TEST_CLIENT = "werkzeug.debug.preserve_context"
"""In the environ of requests by Flask's test client."""


def is_unknown_server_request() -> bool:
    """Whether a request is being handled that no known server has made, nor the test client."""
    return has_request_context() and not {"SERVER_SOFTWARE", TEST_CLIENT} & request.environ.keys()


def has_server() -> bool:
    """Whether the module of a known server is loaded."""
    return not SERVERS.isdisjoint(sys.modules)


def is_serving() -> bool:
    """Whether a known server's loop runs now, in any thread of this process, and has imported the
    app."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        return bool(uwsgi.worker_id()) and not any(map(_is_importing, _frames()))
    return any(_serves(stack) for stack in _stacks())


def lacks_threads() -> bool:
    """Whether this is uWSGI, started so that Python's threads do not run."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and not {"enable-threads", "threads", "gevent"} & uwsgi.opt.keys()


def exit_at_sigterm(within: float, *, is_flask_run: bool) -> None:
    """Let SIGTERM end this process in order, and within so many seconds, if its server leaves the
    signal alone and the app has no handler. By default a process ends at once, without `atexit`, or
    as PID 1 not at all."""
    leaves_it = is_flask_run or not LEAVE_SIGTERM.isdisjoint(sys.modules)
    is_main = threading.current_thread() is threading.main_thread()
    if not (leaves_it and is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
        return
    own = os.getpid()

    def end(signum: int, frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)  # a second one ends it at once
        if os.getpid() != own:  # a fork of the app's own, which has inherited this
            os.kill(os.getpid(), signum)
        limit = threading.Timer(within, os._exit, (128 + signum,))  # a thread may never end
        limit.daemon = True
        limit.start()
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)


def call_in_workers_of_uwsgi(function: Callable[[], object]) -> None:
    """In uWSGI's master, which has imported the app for its workers: let each of them call this
    when it begins. Its fork is not announced to Python (without `py-call-osafterfork`)."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not uwsgi.worker_id():
        before = getattr(uwsgi, "post_fork_hook", lambda: None)

        def hook() -> None:
            before()
            function()

        uwsgi.__dict__["post_fork_hook"] = hook


def is_forking_server() -> bool:
    """Whether this is gunicorn's first process, which loads the app for its workers (--preload)."""
    names = {frame.f_code.co_name for frame in _frames() if _is_arbiter(frame)}
    return bool(names) and "spawn_worker" not in names


def _stacks() -> Iterator[list[FrameType]]:
    """The frames of each thread, the innermost first."""
    for frame in sys._current_frames().values():
        stack: list[FrameType] = []
        here: FrameType | None = frame
        while here is not None:
            stack.append(here)
            here = here.f_back
        yield stack


def _frames() -> Iterator[FrameType]:
    return chain.from_iterable(_stacks())


def _serves(stack: list[FrameType]) -> bool:
    """Whether a server's loop is among the frames, and imports nothing now."""
    loops = [*LOOPS, *([ASYNCIO] if sys.modules.keys() >= TORNADO else [])]
    for frame in stack:
        if _is_importing(frame):
            return False
        code = frame.f_code
        path = code.co_filename.replace(os.sep, "/")
        if any(code.co_name == name and path.endswith("/" + file) for file, name in loops):
            return True
    return False


def _is_importing(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(IMPORTING)


def _is_arbiter(frame: FrameType) -> bool:
    return frame.f_code.co_filename.replace(os.sep, "/").endswith("gunicorn/arbiter.py")
