"""What a test must not leave behind: contexts, threads, processes, open files and sockets."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from flask import has_app_context, has_request_context
from flask.globals import app_ctx, request_ctx

import proc

GRACE = 5.0
"""Seconds that threads and processes get to end: what was asked to stop takes its time."""

RUN_MARK = "TEST_RUN_MARK"
"""The environment variable by which even an orphan is recognised."""

# A line that is added says why it is no leak.
THREADS_ALLOWED: dict[str, str] = {
    r"pytest_timeout .*": "the timer of the test's own time limit",
    r"flask-offload-(sampler|reporter)": "one for the process; they sleep without requests",
}
DESCRIPTORS_ALLOWED: dict[str, str] = {
    r"/dev/(null|u?random|tty|pts/.*)": "devices that libraries open once and keep",
    r".*/\.coverage(\.[^/]*)?(-journal)?": "what `make coverage` writes",
    r"/proc/\d+/task/\d+/schedstat": "a clock that the sampler's thread reads now and then",
    r"anon_inode:\[eventpoll\]": "kombu's Redis transport keeps a poller with each of its pools",
    r".*\.(so(\.[\d.]+)?|py|pyc|pem|mo|zip|pak|dat|bin)": "code and data that an import keeps open",
}


def _allowed(text: str, table: dict[str, str]) -> bool:
    return any(re.fullmatch(pattern, text) for pattern in table)


def mark_this_run() -> None:
    """From here on every program that is started carries our mark."""
    os.environ[RUN_MARK] = uuid.uuid4().hex


@dataclass(frozen=True)
class Snapshot:
    """What there is before a test."""

    context: object
    threads: frozenset[threading.Thread]
    processes: frozenset[int]
    descriptors: frozenset[tuple[int, str]]

    @classmethod
    def take(cls) -> Snapshot:
        """Look at this process as it is now."""
        return cls(
            context=_current_context(),
            threads=frozenset(threading.enumerate()),
            processes=frozenset(proc.pids()),
            descriptors=frozenset(proc.open_descriptors().items()),
        )

    def leaks(self) -> list[str]:
        """A sentence for each thing that is new since then and stays for GRACE seconds."""
        return [
            *_leaked_contexts(self.context),
            *_still_there(lambda: self._threads(), GRACE),
            *_still_there(lambda: self._processes(), GRACE),
            *_still_there(lambda: self._descriptors(), grace=0.2),
        ]

    def _threads(self) -> dict[object, str]:
        return {
            thread: f"the thread {thread.name!r} still runs:\n{_stack(thread)}"
            for thread in threading.enumerate()
            if thread not in self.threads and not _allowed(thread.name, THREADS_ALLOWED)
        }

    def _processes(self) -> dict[object, str]:
        new = proc.pids() - self.processes
        if not new:
            return {}
        marked = proc.processes_marked(f"{RUN_MARK}={os.environ.get(RUN_MARK)}", new)
        found = {*marked, *proc.descendants(os.getpid())} & new
        return {pid: _describe_process(pid) for pid in sorted(found)}

    def _descriptors(self) -> dict[object, str]:
        with _no_statistics_are_written():
            found = proc.open_descriptors()
        return {
            (number, target): f"descriptor {number} is still open: {target}"
            for number, target in found.items()
            if (number, target) not in self.descriptors
            and not _allowed(target, DESCRIPTORS_ALLOWED)
        }


def _no_statistics_are_written() -> AbstractContextManager[object]:
    """The profiler's thread opens their file for a write, after a slow request of any test."""
    middleware = sys.modules.get("flask_offload.profiler.middleware")
    return nullcontext() if middleware is None else middleware.sampler.reporter._writing


def leaked_processes(before: Snapshot) -> list[int]:
    """The ids of the live processes that a test has left, so that they can be ended."""
    return [pid for pid in before._processes() if isinstance(pid, int) and proc.alive(pid)]


def _still_there(look: Callable[[], dict[object, str]], grace: float) -> list[str]:
    deadline = time.monotonic() + grace
    found = look()
    if found:
        gc.collect()  # what only a reference cycle keeps is no leak
    while found and time.monotonic() < deadline:
        time.sleep(0.01)
        found = look()
    return list(found.values())


def _current_context() -> object:
    if has_request_context():
        return request_ctx._get_current_object()  # type: ignore[attr-defined]
    return app_ctx._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]


def _leaked_contexts(before: object) -> list[str]:
    """Contexts that were pushed and not popped; they are popped here, for the next test's sake."""
    leaked = []
    while (context := _current_context()) is not None and context is not before:
        leaked.append(f"a context is still pushed: {context!r}")
        context.pop()  # type: ignore[attr-defined]
    return leaked


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-6:]) if frame else "(it has no frame)"


def _describe_process(pid: int) -> str:
    line = proc.command_line(pid)
    started_by = proc.environment(pid).get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
    if not proc.alive(pid):
        return f"process {pid} has ended and no process has waited for it (a zombie)"
    return f"process {pid} still runs: {line}" + (f" (begun in {started_by})" if started_by else "")
