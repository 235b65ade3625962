"""A child of a worker: it imports the app and runs jobs. It never touches the job database."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import logging
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, cast

import click
from flask import Flask

from .. import signals
from ..engines.host import Host
from ..engines.slots import Slots
from ..errors import ConfigError, OffloadError
from ..jobs import log
from ..jobs.attempt import Ending, Outcome
from ..jobs.reported import error_of
from ..role import become_worker
from .announcer import Announcer, SharedCount
from .app_identity import differences, expected_digests
from .executor import Executor
from .messages import (
    Begin,
    Cancel,
    Channel,
    Crashed,
    Done,
    Drain,
    Ended,
    ImportFailed,
    Ready,
    Recall,
    ResolveTimeout,
    Returned,
    Run,
    ToChild,
)
from .programs import VARIABLE
from .settings import worker_settings

FLUSH_EVERY = 0.25
SWITCH_INTERVAL = 0.001
"""Seconds a computing thread may hold the interpreter before the next; Python's own is 0.005. The
thread that talks to the supervisor should not wait that long."""
PR_SET_PDEATHSIG = 1
TRY_AGAIN = 1.0
"""Seconds for which a process that can't run jobs stays, so that the next does not come at once."""
EXIT_TIMEOUT = 5.0
"""Seconds that exit handlers and slow receivers of signals get at an orderly stop."""
EXIT_SOFTWARE = 70
"""As in sysexits.h: the process can't go on, and its jobs are put back."""


def main(
    connection: socket.socket,
    load_app: Callable[[], Flask],
    threads: int | None,
    supervisor_pid: int,
    announced: SharedCount,
    *,
    isolated: bool,
) -> NoReturn:
    """The life of a child, from the fork to the end. threads: None takes the app's setting.
    announced: counts the signals that it has sent for the supervisor.
    isolated: whether it runs one job, in its main thread, so that signal handlers and event loops
    work there as in a program of its own."""
    code = 1
    try:
        _die_with(supervisor_pid)
        # Only the supervisor decides when to stop: a ^C or a service manager may signal the whole
        # group. A handler, unlike SIG_IGN, is not inherited by programs that tasks start.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.setswitchinterval(SWITCH_INTERVAL)
        log.add_job_fields()
        become_worker()
        channel = Channel(connection, ToChild)
        host = _imported(channel, load_app)
        if host is not None:
            count = 0 if isolated else threads or host.config.worker_threads
            child = Child(channel, host, count, announced)
            if child.run(in_main_thread=isolated):
                code = 0
                _run_exit_handlers(code)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # no clean-up of what belongs to the parent


def _run_exit_handlers(code: int) -> None:
    """What an orderly stop owes the app: `atexit`, and what its files have buffered. Bounded, since
    an exit handler may wait for a server that does not answer."""
    timer = threading.Timer(EXIT_TIMEOUT, os._exit, [code])
    timer.daemon = True
    timer.start()
    atexit._run_exitfuncs()
    for item in gc.get_objects():  # those from before the fork are frozen, and not among them
        if isinstance(item, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(Exception):
                item.flush()


def _die_with(supervisor_pid: int) -> None:
    """Ask the kernel to kill this process when the supervisor dies; elsewhere than on Linux the end
    of the channel does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:  # it died before the request
        os._exit(1)


def _imported(channel: Channel, load_app: Callable[[], Flask]) -> Host | None:
    """Import the app and report it; None, after the reason was sent, if that fails."""
    try:
        app = load_app()
        log.use_app_logging()
        offload = app.extensions.get("offload")
        if offload is None:
            raise OffloadError(
                f"the app {app.name!r} has no Flask-Offload: call offload.init_app(app)"
            )
        host: Host = offload.state_of(app)
        if not host.engine.flags.worker_command:
            raise host.engine.unsupported("worker_command")
        _check_identity(app)
        with app.app_context():
            settings = worker_settings(host)
        channel.send(Ready(settings))
        return host
    except BaseException as error:
        # these are in a sentence for users already
        is_clear = isinstance(error, (OffloadError, click.ClickException))
        trace = "" if is_clear else f"\n{traceback.format_exc()}"
        channel.send(ImportFailed(f"{type(error).__name__}: {error}{trace}"))
        deadline = time.monotonic() + 5
        while channel.wants_write and time.monotonic() < deadline:
            channel.flush()
        return None


def _check_identity(app: Flask) -> None:
    """Raise ConfigError if the web process that keeps this worker has another configuration."""
    expected = expected_digests()
    keys = [] if expected is None else differences(app.config, expected)
    if keys:
        shown = ", ".join(keys[:8]) + (" …" if len(keys) > 8 else "")
        raise ConfigError(
            f"the app that was imported has another configuration than the web process: {shown}"
            f" {'differs' if len(keys) == 1 else 'differ'}"
        )


class Child:
    """Carries messages between the supervisor and the runner, until the supervisor hangs up."""

    def __init__(self, channel: Channel, host: Host, threads: int, announced: SharedCount) -> None:
        self._channel = channel
        self._host = host
        self._waker, self._wake_end = socket.socketpair()
        self._waker.setblocking(False)
        self._wake_end.setblocking(False)
        self._is_woken = False
        self._announcer = Announcer(host, announced, self._wake)
        self._slots: Slots | None = None
        self._executor = Executor(
            host,
            threads=threads,
            note_start=self._note_start,
            wake=self._wake,
            give_up=lambda: os._exit(EXIT_SOFTWARE),
        )

    def run(self, *, in_main_thread: bool) -> bool:
        """Until the channel ends; whether that was orderly, with no job running.

        in_main_thread: run the jobs here, and exchange messages in another thread.
        """
        signals.send(signals.worker_started, self._host.app, worker=f"pid {os.getpid()}")
        if in_main_thread:
            threading.Thread(target=self._serve, name="offload-messages", daemon=True).start()
            self._executor.work_here()
        else:
            self._serve()
        if self._executor.is_busy:
            return False
        self._announcer.close(EXIT_TIMEOUT)
        signals.send(signals.worker_stopped, self._host.app, worker=f"pid {os.getpid()}")
        return True

    def _serve(self) -> None:
        """Exchange messages until the supervisor is gone or closes the channel."""
        selector = selectors.DefaultSelector()
        selector.register(self._waker, selectors.EVENT_READ)
        selector.register(self._channel, selectors.EVENT_READ)
        writing = False
        busy = False
        while not self._channel.is_closed:
            selector.select(FLUSH_EVERY if busy else None)
            self._clear_wake()
            for message in self._channel.receive():
                self._obey(cast("ToChild", message))
            busy = self._executor.flush()
            self._report()
            self._channel.flush()
            if writing is not self._channel.wants_write:
                writing = self._channel.wants_write
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
                selector.modify(self._channel, wanted)
        if self._executor.is_busy:
            os._exit(EXIT_SOFTWARE)  # the supervisor is gone: another worker runs the job again
        self._executor.end()

    def _obey(self, message: ToChild) -> None:
        match message:
            case Begin(slots):
                self._slots = _open_slots(Path(slots))
                os.environ[VARIABLE] = self._slots.path.stem
            case Run(claims):
                self._executor.submit(claims)
            case Cancel(seq, attempt):
                self._executor.cancel(seq, attempt)
            case Recall():
                self._channel.send(Returned(self._executor.recall()))
            case Drain():
                self._executor.drain()
            case ResolveTimeout() | Crashed() | Ended():
                self._announcer.submit(message)

    def _report(self) -> None:
        """Send what the executor has put into its outboxes, if anything."""
        executor = self._executor
        # outcomes first out of the box, last into the message: a job's reports precede its outcome
        outcomes = _take(executor.outcomes)
        reports, unknown = _take(executor.reports), _take(executor.unknown)
        outcomes += _take(self._announcer.outcomes)
        if outcomes or reports or unknown:
            try:
                self._channel.send(Done(reports, outcomes, unknown))
            except Exception as error:  # some value can't be encoded: the jobs must still end
                self._report_without(error, outcomes, unknown)

    def _report_without(
        self, error: Exception, outcomes: list[Outcome], unknown: list[int]
    ) -> None:
        """Send the outcomes one by one; in place of one that can't be sent, that its job failed."""
        message = "a report of a job can't be sent to the supervisor: %s"
        log.write(logging.ERROR, "unsendable_report", message, repr(error))
        self._channel.send(Done([], [], unknown))
        for outcome in outcomes:
            try:
                self._channel.send(Done([], [outcome], []))
            except Exception as reason:
                failed = Outcome(
                    *(outcome.seq, outcome.attempt, Ending.FAILED),
                    started_at=outcome.started_at,
                    finished_at=outcome.finished_at,
                    error=error_of(reason),
                )
                self._channel.send(Done([], [failed], []))

    def _note_start(self, ticket: int, seq: int) -> None:
        assert self._slots is not None
        self._slots.start(ticket, seq)

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(BlockingIOError):
                self._wake_end.send(b"!")

    def _clear_wake(self) -> None:
        if self._is_woken:
            with contextlib.suppress(BlockingIOError):
                self._waker.recv(4096)
            self._is_woken = False  # before looking into the outboxes, so that no news is missed


def _open_slots(path: Path) -> Slots:
    """The worker's table. Without it it is unknown which jobs have started, so this process
    ends if it can't be opened, as on a file system that has become read-only."""
    try:
        return Slots(path)
    except OSError as error:
        message = "a new process can't run jobs (%s): another is tried in %g s"
        log.write(logging.ERROR, "slots_unavailable", message, error, TRY_AGAIN)
        time.sleep(TRY_AGAIN)
        os._exit(EXIT_SOFTWARE)


def _take(box: object) -> list:  # type: ignore[type-arg]
    """Empty a deque that other threads append to."""
    taken = []
    while box:
        taken.append(box.popleft())  # type: ignore[attr-defined]
    return taken
