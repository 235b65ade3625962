"""Poison tasks: they do to their process what no task should.

Each has what its job must end with: a pattern that its error matches, or None if the job is to
succeed. Whatever it is, other jobs must not suffer from it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import locale
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flask_offload import Job, current_job

from . import odd_values  # noqa: F401 (declares its task)
from .app import create_app, logged, offload
from .event_log import record_kill

__all__ = ["POISON_TASKS", "create_app", "enqueue_poison", "stop_the_event_loop"]

POISON_TASKS: dict[str, tuple[str | None, Callable[[], Any]]] = {}

TIMEOUT = 1.0


def poison(
    expected: str | None, *, deadly: bool = False
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Make a function a poison task. deadly: it ends its process, and jobs beside it run again."""

    def decorate(function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            if deadly:
                now = time.monotonic()
                record_kill(function.__name__, now, [os.getpid()], until=now + 20)
            return function()

        POISON_TASKS[function.__name__] = (expected, run)
        return function

    return decorate


@offload.task
def run_poison(name: str) -> Any:
    with logged():
        return POISON_TASKS[name][1]()


@offload.task(timeout=TIMEOUT)
def run_in_time(name: str) -> Any:
    """For those that never end by themselves."""
    with logged():
        return POISON_TASKS[name][1]()


def enqueue_poison(name: str) -> Job:
    """The job of a poison task."""
    endless = (POISON_TASKS[name][0] or "").startswith("JobTimeout")
    return (run_in_time if endless else run_poison).enqueue(name)


# --- deadly ones -------------------------------------------------------------------------------


@poison("WorkerDied: .*killed by SIGSEGV.*crash 3 of 3", deadly=True)
def segfault() -> None:
    ctypes.string_at(0)


@poison("WorkerDied: .*killed by SIGABRT.*crash 3 of 3", deadly=True)
def abort() -> None:
    os.abort()


@poison("WorkerDied: .*exit code 3.*crash 3 of 3", deadly=True)
def leave() -> None:
    os._exit(3)


@poison("WorkerDied: .*killed by SIGKILL.*crash 3 of 3", deadly=True)
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@poison("WorkerDied: .*killed by SIG(SEGV|BUS).*crash 3 of 3", deadly=True)
def overflow_the_stack() -> None:
    sys.setrecursionlimit(10**9)
    threading.stack_size(1 << 16)  # Python counts how deep it is in C, and trusts in a usual stack

    class Endless:
        def __getattr__(self, name: str) -> Any:
            return getattr(self, name)

    thread = threading.Thread(target=lambda: Endless().a)
    thread.start()
    thread.join()


@poison("WorkerDied: .*(closed the connection|exit code 1).*crash 3 of 3", deadly=True)
def close_all_descriptors() -> None:
    os.closerange(0, 4096)
    time.sleep(60)


@poison("JobTimeout: .*by force", deadly=True)
def loop_in_c() -> int:
    """Holds the interpreter, so that no other thread of the process ever runs again."""
    return sum(itertools.repeat(1))


@poison("JobTimeout: .*by force", deadly=True)
def sleep_for_ever() -> None:
    time.sleep(3600)


@poison("JobTimeout: .*by force", deadly=True)
def catch_everything() -> None:
    while True:
        try:
            time.sleep(0.05)
            current_job.check()
        except BaseException:
            pass


@poison("WorkerDied: .*killed by SIGUSR1.*crash 3 of 3", deadly=True)
def default_signal() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(1)


# --- those whose process survives --------------------------------------------------------------


@poison("MemoryError")
def eat_memory() -> int:
    """The process runs under a limit (RLIMIT_AS)."""
    return len(bytearray(1 << 40))


@poison("SystemExit: 3")
def exit_politely() -> None:
    sys.exit(3)


@poison("KeyboardInterrupt")
def interrupt() -> None:
    raise KeyboardInterrupt


@poison("GeneratorExit")
def exit_a_generator() -> None:
    raise GeneratorExit


@poison("RecursionError")
def recurse() -> None:
    recurse()


@poison("Spiteful: .its __str__ raised RuntimeError.")
def spiteful_error() -> None:
    class Spiteful(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    raise Spiteful


@poison("ValueError: x{100}")
def enormous_error() -> None:
    raise ValueError("x" * 50_000_000)


@poison("ValueError: .*udc80")
def unprintable_error() -> None:
    raise ValueError("\udc80 \0 \x1b[31m")


@poison("PayloadError")
def return_a_lock() -> Any:
    return threading.Lock()


@poison("PayloadTooLarge")
def return_too_much() -> str:
    return "x" * 10_000_000


@poison("PayloadError")
def return_a_circle() -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return circle


# --- those that leave something behind ---------------------------------------------------------


@poison(None)
def change_folder() -> None:
    os.chdir("/")


@poison(None)
def remove_its_folder() -> None:
    # not in the current one: another of them may just have changed it
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


@poison(None)
def ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@poison("ValueError: signal only works in main thread")
def set_a_handler() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@poison(None)
def change_locale() -> None:
    for name in ("de_DE.UTF-8", "C"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)


@poison(None)
def clear_environment() -> None:
    path = os.environ["EVENT_LOG"]
    os.environ.clear()
    os.environ["EVENT_LOG"] = path  # the auditor's path, not this task's


@poison(None)
def close_standard_files() -> None:
    sys.stdout.close()
    sys.stderr.close()


@poison(None)
def shout() -> None:
    with suppress(ValueError):  # another of them may have closed it
        print("x" * 1_000_000)


@poison(None)
def collect_no_garbage() -> None:
    gc.disable()


@poison(None)
def silence_the_logs() -> None:
    logging.disable(logging.CRITICAL)
    logging.getLogger("flask_offload").handlers.clear()


@poison(None)
def leave_threads() -> None:
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(1,)).start()


@poison(None)
def fork_and_return() -> None:
    if os.fork() != 0:
        time.sleep(0.2)


@poison(None)
def become_somebody_else() -> None:
    os.umask(0o777)
    os.nice(1)


@offload.task
async def stop_the_event_loop() -> None:
    """All async jobs of the process hang on it."""
    now = time.monotonic()
    with logged():
        record_kill("event-loop", now, [os.getpid()], until=now + 20)
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)


@poison("ValueError: the log is broken")
def break_the_log() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no")

    logging.getLogger("flask_offload").addHandler(Broken())
    raise ValueError("the log is broken")
