"""What the sampler's thread can prove about a wait for Python's interpreter."""

from __future__ import annotations

import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from flask_offload.profiler.thread_clock import InterpreterWait


def held_during(work: Callable[[], object]) -> list[float]:
    """What a thread that wants the interpreter every 10 ms proves about this work."""
    found: list[float] = []
    has_begun, is_over = threading.Event(), threading.Event()

    def wait() -> None:
        with closing(InterpreterWait()) as waited:
            while not is_over.is_set():
                now = time.perf_counter()
                waited.begin(now, now + 0.01, is_idle=True)
                is_over.wait(0.01)
                waited.end(time.perf_counter())
                found.append(waited.held())
                has_begun.set()

    thread = threading.Thread(target=wait)
    thread.start()
    has_begun.wait()
    try:
        work()
    finally:
        is_over.set()
        thread.join()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is proven elsewhere")
def test_one_call_that_keeps_the_interpreter_is_proven_to() -> None:
    took = 0.0

    def match() -> None:
        nonlocal took
        began = time.perf_counter()
        re.fullmatch(r"(a|a)*b", "a" * 21)
        took = time.perf_counter() - began

    held = max(held_during(match))
    assert took / 2 < held <= took


def test_many_short_calls_are_never_taken_for_one() -> None:
    """Each releases the interpreter, but takes it again before another thread has woken up."""
    connection = sqlite3.connect(":memory:")

    def select() -> None:
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            connection.execute("SELECT 1").fetchone()
            sum(range(5_000))

    assert not any(held_during(select))
    connection.close()
