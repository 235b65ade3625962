"""Poison pills: tasks that do to their process what no task should.

Each pill has what its job must come to: a pattern that its error matches, or None if the job is to
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

from .app import create_app, offload, witnessed
from .witness import axe

__all__ = ["PILLS", "create_app", "enqueue_pill", "stop_the_event_loop"]

PILLS: dict[str, tuple[str | None, Callable[[], Any]]] = {}

TIMEOUT = 1.0


def pill(
    expected: str | None, *, deadly: bool = False
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Make a function a pill. deadly: its process dies of it, so that others in it run again."""

    def decorate(function: Callable[[], Any]) -> Callable[[], Any]:
        def swallow() -> Any:
            if deadly:
                now = time.monotonic()
                axe(function.__name__, now, [os.getpid()], until=now + 20)
            return function()

        PILLS[function.__name__] = (expected, swallow)
        return function

    return decorate


@offload.task
def swallow(name: str) -> Any:
    with witnessed():
        return PILLS[name][1]()


@offload.task(timeout=TIMEOUT)
def swallow_in_time(name: str) -> Any:
    """For those that never end by themselves."""
    with witnessed():
        return PILLS[name][1]()


def enqueue_pill(name: str) -> Job:
    """The job of a pill."""
    endless = (PILLS[name][0] or "").startswith("JobTimeout")
    return (swallow_in_time if endless else swallow).enqueue(name)


# --- deadly ones -------------------------------------------------------------------------------


@pill("WorkerDied: .*killed by SIGSEGV.*crash 3 of 3", deadly=True)
def segfault() -> None:
    ctypes.string_at(0)


@pill("WorkerDied: .*killed by SIGABRT.*crash 3 of 3", deadly=True)
def abort() -> None:
    os.abort()


@pill("WorkerDied: .*exit code 3.*crash 3 of 3", deadly=True)
def leave() -> None:
    os._exit(3)


@pill("WorkerDied: .*killed by SIGKILL.*crash 3 of 3", deadly=True)
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pill("WorkerDied: .*killed by SIG(SEGV|BUS).*crash 3 of 3", deadly=True)
def overflow_the_stack() -> None:
    sys.setrecursionlimit(10**9)
    threading.stack_size(1 << 16)  # Python counts how deep it is in C, and trusts in a usual stack

    class Endless:
        def __getattr__(self, name: str) -> Any:
            return getattr(self, name)

    thread = threading.Thread(target=lambda: Endless().a)
    thread.start()
    thread.join()


@pill("WorkerDied: .*(closed the connection|exit code 1).*crash 3 of 3", deadly=True)
def close_all_descriptors() -> None:
    os.closerange(0, 4096)
    time.sleep(60)


@pill("JobTimeout: .*by force", deadly=True)
def loop_in_c() -> int:
    """Holds the interpreter, so that no other thread of the process ever runs again."""
    return sum(itertools.repeat(1))


@pill("JobTimeout: .*by force", deadly=True)
def sleep_for_ever() -> None:
    time.sleep(3600)


@pill("JobTimeout: .*by force", deadly=True)
def catch_everything() -> None:
    while True:
        try:
            time.sleep(0.05)
            current_job.check()
        except BaseException:
            pass


@pill("WorkerDied: .*killed by SIGUSR1.*crash 3 of 3", deadly=True)
def default_signal() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(1)


# --- those whose process survives --------------------------------------------------------------


@pill("MemoryError")
def eat_memory() -> int:
    """The process runs under a limit (RLIMIT_AS)."""
    return len(bytearray(1 << 40))


@pill("SystemExit: 3")
def exit_politely() -> None:
    sys.exit(3)


@pill("KeyboardInterrupt")
def interrupt() -> None:
    raise KeyboardInterrupt


@pill("GeneratorExit")
def exit_a_generator() -> None:
    raise GeneratorExit


@pill("RecursionError")
def recurse() -> None:
    recurse()


@pill("Spiteful: .its __str__ failed.")
def spiteful_error() -> None:
    class Spiteful(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    raise Spiteful


@pill("ValueError: x{100}")
def enormous_error() -> None:
    raise ValueError("x" * 50_000_000)


@pill("ValueError: .*udc80")
def unprintable_error() -> None:
    raise ValueError("\udc80 \0 \x1b[31m")


@pill("PayloadError")
def return_a_lock() -> Any:
    return threading.Lock()


@pill("PayloadTooLarge")
def return_too_much() -> str:
    return "x" * 10_000_000


@pill("PayloadError")
def return_a_circle() -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return circle


# --- those that leave something behind ---------------------------------------------------------


@pill(None)
def change_folder() -> None:
    os.chdir("/")


@pill(None)
def remove_its_folder() -> None:
    folder = tempfile.mkdtemp()  # not in the current one, which another pill may just have changed
    os.chdir(folder)
    os.rmdir(folder)


@pill(None)
def ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@pill("ValueError: signal only works in main thread")
def set_a_handler() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@pill(None)
def change_locale() -> None:
    for name in ("de_DE.UTF-8", "C"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)


@pill(None)
def clear_environment() -> None:
    path = os.environ["WITNESS"]
    os.environ.clear()
    os.environ["WITNESS"] = path  # the auditor's, not ours


@pill(None)
def close_standard_files() -> None:
    sys.stdout.close()
    sys.stderr.close()


@pill(None)
def shout() -> None:
    with suppress(ValueError):  # another pill may have closed it
        print("x" * 1_000_000)


@pill(None)
def collect_no_garbage() -> None:
    gc.disable()


@pill(None)
def silence_the_logs() -> None:
    logging.disable(logging.CRITICAL)
    logging.getLogger("flask_offload").handlers.clear()


@pill(None)
def leave_threads() -> None:
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(1,)).start()


@pill(None)
def fork_and_return() -> None:
    if os.fork() != 0:
        time.sleep(0.2)


@pill(None)
def become_somebody_else() -> None:
    os.umask(0o777)
    os.nice(1)


@offload.task
async def stop_the_event_loop() -> None:
    """All async jobs of the process hang on it."""
    now = time.monotonic()
    with witnessed():
        axe("event-loop", now, [os.getpid()], until=now + 20)
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)


@pill("ValueError: the log is broken")
def break_the_log() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no")

    logging.getLogger("flask_offload").addHandler(Broken())
    raise ValueError("the log is broken")
