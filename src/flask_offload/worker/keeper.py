"""The keeper: a small thread in the web process that keeps one worker alive per database.

Of all web processes around a database, the one that holds the keeper's lock has the worker as its
child; when it dies, the worker leaves and the next keeper starts its own. So `flask run` or
gunicorn alone is a complete system.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

import click

from ..engines.host import Host
from ..engines.lock import Lock
from ..engines.processes import has_ended, identity, is_stopped
from ..jobs import log
from ..role import is_server_request, is_worker
from ..textui import show_number
from .app_identity import as_variable
from .app_locator import EXIT_IMPORT, cli_words, flask_command, import_targets, python_path
from .code_identity import other_code, own_code, publish
from .serving import (
    call_in_workers_of_uwsgi,
    exit_at_sigterm,
    has_server,
    is_forking_server,
    is_serving,
    is_unknown_server_request,
    lacks_threads,
)

if TYPE_CHECKING:
    from .thread_worker import ThreadWorker

TAKE_OVER = 0.1
"""Seconds between two tries to become the keeper. A few system calls each; waiting for the lock
instead would block every greenlet of a gevent server."""
COMPARE_EVERY = 3.0
"""Seconds between two looks at the code of the process that has the worker; a reload is shorter."""
HAND_OVER = 2.0
"""Seconds for which the worker of a web process that is gone waits for another to take over."""
RESTART_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the worker is started again, by how often in a row it has ended too soon."""
TOO_SOON = 10.0
"""Seconds after which its end is an accident, as `kill -9` is, and the next one need not wait."""

SERVING_WITHIN = 60.0
"""Seconds after init_app within which a known server begins to serve; else the first request or
enqueue starts the worker."""
EXIT_USAGE = 2
"""What Click exits with: an app's own command line may lack our commands."""
STOP_MARGIN = 5.0
"""Seconds beyond the drain timeout after which the web process no longer waits for its worker."""

STOPPED_FOR = 30
"""So many tries in a row that find the process with the lock stopped (SIGSTOP), until this one
takes its place."""

UNKNOWN_SERVER = (
    "a request is handled by a server that is not known, so this process keeps no worker: start"
    " `flask offload worker` beside it, with OFFLOAD_WORKER = 'off'"
)
NO_THREADS = (
    "uWSGI runs no threads, so this process keeps no worker: set enable-threads = true, or start"
    " `flask offload worker` beside it, with OFFLOAD_WORKER = 'off'"
)

OTHER_WAYS = (
    "Set OFFLOAD_APP to what `flask --app` takes, or start `flask offload worker` yourself with"
    " OFFLOAD_WORKER = 'off'"
)
WAY_OF_FROZEN = "OFFLOAD_WORKER = 'thread' says that this is meant"

_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


def introduction(state: Host, context: click.Context) -> str:
    """What the worker says of itself in the terminal of a development server. context: of the
    command that runs the server."""
    config, tasks = state.config, state.registry.tasks.values()
    queues = ", ".join(sorted({task.options.queue_name for task in tasks}))
    given = context.params
    text = (
        f"jobs on {config.engine} ({state.database}):"
        f" {show_number(len(tasks), 'task')} in {queues or 'no queue'},"
        f" {show_number(len(state.registry.schedules), 'schedule')},"
        f" {show_number(config.worker_processes * config.worker_threads, 'place')}"
    )
    if context.info_name != "run" or not config.dashboard or not given.get("port"):
        return text
    scheme = "https" if given.get("cert") else "http"
    host = given.get("host") or "127.0.0.1"
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"{text}; {scheme}://{host}:{given['port']}{config.url_prefix}/dashboard/"


class Keeper:
    """Starts with a known server, else with the first request or enqueue of a web process."""

    def __init__(self, state: Host) -> None:
        self._state = weakref.ref(state)
        self._mode = state.config.worker
        self._context = flask_command()
        self._lock = Lock(state.engine.run_folder() / "keeper.lock")
        self._decided = False
        self._beginning = threading.Lock()
        self._stopping = threading.Event()
        self._keepalive: int | None = None  # a pipe: the worker stops at its end
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: ThreadWorker | None = None
        self._has_warned = self._has_compared = False
        self._found_stopped = 0
        _keepers.add(self)

    def start(self) -> None:
        """Make sure that a worker runs this process's jobs. Cheap when called again."""
        if self._decided or self._mode == "off" or is_worker():
            return
        if not self._is_web_process():
            if is_unknown_server_request():
                self._warn("unknown_server", UNKNOWN_SERVER)
            return
        if not lacks_threads():
            self._begin()

    def start_with_server(self) -> None:
        """At init_app: if this process belongs to a known server, start when it begins to serve, so
        that waiting jobs and schedules need no request."""
        state = self._state()
        if self._mode == "off" or is_worker() or state is None or self._is_test(state):
            return
        is_run = self._context is not None and self._context.info_name == "run"
        if lacks_threads():
            self._warn("no_threads", NO_THREADS)
            return
        call_in_workers_of_uwsgi(self.forget_parent)
        if is_run or (self._context is None and has_server() and not is_forking_server()):
            within = state.config.drain_timeout + STOP_MARGIN + 1
            exit_at_sigterm(within, is_flask_run=is_run)
            threading.Thread(target=self._await_server, name="offload-start", daemon=True).start()

    def _await_server(self) -> None:
        pid, deadline, pause = os.getpid(), time.monotonic() + SERVING_WITHIN, 0.05
        while time.monotonic() < deadline and not self._decided and os.getpid() == pid:
            if is_serving():
                self._begin()
                return
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def _begin(self) -> None:
        with self._beginning:
            if self._decided:
                return
            self._decided = True
        atexit.register(self._stop)
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None:  # a process that it has forked ends without the above
            multiprocessing.Finalize(self, self._stop, exitpriority=0)
        if self._mode == "thread":
            self._run_in_threads()
        else:
            threading.Thread(target=self._keep, name="offload-keeper", daemon=True).start()

    def _is_web_process(self) -> bool:
        state = self._state()
        if state is None or self._is_test(state):
            return False
        if is_server_request():
            return True
        # outside of a request, a script that enqueues something must not be taken for a server
        return self._context is None and has_server()

    @staticmethod
    def _is_test(state: Host) -> bool:
        return state.app.testing or "_pytest" in sys.modules

    def _warn(self, action: str, message: str) -> None:
        state = self._state()
        if not self._has_warned and state is not None and not self._is_test(state):
            self._has_warned = True
            log.write(logging.WARNING, action, message)

    # --- as a thread ---

    def _keep(self) -> None:
        """Keep a worker until the web process ends. Whatever goes wrong here, jobs still run."""
        try:
            self._keep_worker()
        except BaseException as error:
            reason = f"no worker process can be started here ({type(error).__name__}: {error})"
            self._fall_back_to_threads(reason)

    def _keep_worker(self) -> None:
        state = self._state()
        if state is None:
            return
        targets = import_targets(state.app, state.config.app, self._context)
        del state
        code_file, own = self._lock.path.with_name("keeper.json"), own_code()
        failures, compare_at = 0, time.monotonic() + COMPARE_EVERY
        while not self._stopping.is_set():
            if not self._try_lock():
                self._stopping.wait(TAKE_OVER)
                if time.monotonic() > compare_at and not self._has_compared:
                    compare_at = time.monotonic() + COMPARE_EVERY
                    self._warn_about_other_code(*other_code(code_file, own))
                continue
            with contextlib.suppress(OSError):  # a full disk; no other process compares then
                publish(code_file, own)
            began = time.monotonic()
            code = self._run_worker(targets[0], len(targets) == 1) if targets else EXIT_IMPORT
            if code is None or self._stopping.is_set():
                return
            if code in {EXIT_IMPORT, EXIT_USAGE}:
                targets = targets[1:]
                if not targets:
                    self._fall_back_to_threads(
                        "no worker process could import this app as it is configured here"
                    )
                    return
                continue
            accident = code == -signal.SIGKILL or time.monotonic() - began > TOO_SOON
            failures = 0 if accident else failures + 1
            pause = RESTART_PAUSES[min(failures, len(RESTART_PAUSES) - 1)]
            message = "the worker process ended with exit code %d; another starts in %g s"
            log.write(logging.WARNING, "worker_ended", message, code, pause)
            self._stopping.wait(pause)

    def _warn_about_other_code(self, pid: int, modules: list[str]) -> None:
        if not modules:
            return
        self._has_compared = True
        log.write(
            logging.WARNING,
            "other_code",
            "the worker of process %d runs the jobs of this process too, but with another version"
            " of %s: stop that process, or give this one another database",
            pid,
            ", ".join(modules[:8]) + (" …" if len(modules) > 8 else ""),
        )

    def _fall_back_to_threads(self, reason: str) -> None:
        self._release_worker()
        self._lock.release()
        log.write(
            logging.ERROR,
            "worker_import_failed",
            "%s, so its jobs run in threads of the web process. %s",
            reason,
            WAY_OF_FROZEN if getattr(sys, "frozen", False) else OTHER_WAYS,
        )
        self._run_in_threads()

    def _try_lock(self) -> bool:
        if self._lock.is_current:
            return True
        self._lock.release()  # another has taken it while this process was stopped
        try:
            return self._lock.acquire(self._may_take)
        except OSError as error:
            log.write(logging.WARNING, "keeper_lock", "can't use %s: %s", self._lock.path, error)
            self._stopping.wait(2.0)
            return False

    def _may_take(self, owner: str) -> bool:
        """Whether the owner of the lock can't keep a worker: it has ended, or is stopped. It is not
        continued from here; when it goes on, it waits for the lock again once its worker ends."""
        pid = int(owner.split()[0]) if owner else 0
        is_stopped_now = is_stopped(pid) and identity(pid) == owner
        self._found_stopped = self._found_stopped + 1 if is_stopped_now else 0
        return has_ended(owner) or self._found_stopped >= STOPPED_FOR

    def _run_worker(self, target: str, is_last: bool) -> int | None:
        """Start a worker and wait until it ends; its exit code, None if there is no app left."""
        state = self._state()
        if state is None:
            return None
        read_end, write_end = os.pipe()
        start = ["-m", "flask", "--app", target] if target else cli_words(self._context)
        command = [
            *(python(), *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
            *(*start, "offload", "worker"),
            *("--kept-by", str(read_end), "--database", str(state.database)),
            # new code wants a new worker, not the help of the old one
            *("--hand-over", "0" if state.app.debug else str(HAND_OVER)),
            *([] if is_last else ["--no-explain"]),
        ]
        if state.app.debug and self._context is not None:
            command += ["--introduction", introduction(state, self._context)]
        environment = {
            **os.environ,
            "PYTHONPATH": python_path(),
            # what this process has not read, or has read into its environment, is not read there
            "FLASK_SKIP_DOTENV": "1",
            "FLASK_DEBUG": "1" if state.app.debug else "0",
            **as_variable(state.app.config),
        }
        del state
        for name in ("WERKZEUG_RUN_MAIN", "WERKZEUG_SERVER_FD"):
            environment.pop(name, None)
        process = subprocess.Popen(
            command, pass_fds=(read_end,), env=environment, stdin=subprocess.DEVNULL
        )
        os.close(read_end)
        self._keepalive, self._process = write_end, process
        if self._stopping.is_set():
            self._release_worker()
        try:
            return process.wait()
        finally:
            self._process = None
            self._release_worker()

    def _run_in_threads(self) -> None:
        state = self._state()
        if state is not None:
            from .thread_worker import ThreadWorker  # few web processes need what it imports

            self._threads = ThreadWorker(state)
            self._threads.start()

    # --- ends ---

    def _stop(self) -> None:
        """At exit: release the lock and the worker, and wait until it has finished what it runs: in
        a container, the end of this process may be the end of them all."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        process, state = self._process, self._state()
        is_debug = state is not None and state.app.debug  # a reload should not wait for jobs
        if process is not None and not is_debug:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        self._release_worker()
        self._lock.release()
        if state is None:
            return
        timeout = state.config.drain_timeout
        if self._threads is not None:
            self._threads.stop(timeout)
        if process is not None and not is_debug:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout + STOP_MARGIN)

    def _release_worker(self) -> None:
        keepalive, self._keepalive = self._keepalive, None
        if keepalive is not None:
            with contextlib.suppress(OSError):
                os.close(keepalive)

    def forget_parent(self) -> None:
        """In a forked child: the worker and the lock belong to the parent; start afresh."""
        self._release_worker()
        self._decided = False
        self._beginning = threading.Lock()
        self._stopping = threading.Event()
        self._process = self._threads = None
        self.start_with_server()


def python() -> str:
    """The interpreter; servers that embed Python put their own name into sys.executable.

    Raises FileNotFoundError where there is none, as in a frozen app (PyInstaller, cx_Freeze).
    """
    if getattr(sys, "frozen", False):  # sys.executable, whatever its name, is the app itself
        raise FileNotFoundError("this app is frozen, without a Python interpreter")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = os.path.join(sys.prefix, "bin")
    names = (version, "python3", "python")
    candidates = [sys.executable or "", *(os.path.join(folder, name) for name in names)]
    for path in candidates:
        if "python" in os.path.basename(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(f"there is no Python interpreter in {folder}")


def _after_fork() -> None:
    for keeper in list(_keepers):
        keeper.forget_parent()


os.register_at_fork(after_in_child=_after_fork)
