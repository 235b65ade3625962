"""Which threads the requests of a gate start and wait for; only while it is open."""

from __future__ import annotations

import concurrent.futures
import functools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any, Protocol

_own = threading.local()


class Waiting(Protocol):
    """What a gate is asked. thread: None for whatever may have been waited for."""

    def thread_starts(self, thread: Thread) -> None: ...
    def wait_begins(self, thread: Thread | None) -> None: ...
    def wait_ends(self, thread: Thread | None) -> None: ...


@contextmanager
def reported_to(gate: Waiting) -> Iterator[None]:
    """Report starts of threads, and waits for them, to this gate, from whichever thread."""
    with ExitStack() as stack:
        for owner, name in (
            (Thread, "join"),
            (threading.Condition, "wait"),
            (threading.Event, "wait"),  # that waits for no condition when it is set already,
            (queue.Queue, "get"),  # nor does this one when it is filled
            (concurrent.futures.Future, "result"),
            (concurrent.futures.Future, "exception"),
        ):
            stack.enter_context(_replaced(owner, name, _waits(getattr(owner, name), gate)))
        stack.enter_context(_replaced(Thread, "start", _starts(Thread.start, gate)))
        yield


def _waits(method: Callable[..., Any], gate: Waiting) -> Callable[..., Any]:
    @functools.wraps(method)
    def waits(awaited: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(_own, "is_starting", False):  # start() waits until the thread runs
            return method(awaited, *args, **kwargs)
        thread = awaited if isinstance(awaited, Thread) else None
        gate.wait_begins(thread)
        try:
            return method(awaited, *args, **kwargs)
        finally:
            gate.wait_ends(thread)

    return waits


def _starts(method: Callable[..., Any], gate: Waiting) -> Callable[..., Any]:
    @functools.wraps(method)
    def starts(thread: Thread) -> None:
        gate.thread_starts(thread)
        _own.is_starting = True
        try:
            method(thread)
        finally:
            _own.is_starting = False

    return starts


@contextmanager
def _replaced(owner: type, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
