"""Where the lines of jobs are noticed: in `logging`, and in sys.stdout and sys.stderr if asked.

The wrapper of `Logger.callHandlers` sees what the app would log: what passes the levels and filters
of the loggers, whatever their handlers are, also when logging is configured again later. It looks
at a record after the handlers, so that a filter of theirs that hides a secret in it has done so.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from ..role import is_worker
from .context import active
from .reported import error_of, text_of

if TYPE_CHECKING:
    from .context import JobContext

CELERY_STDOUT = "celery.redirected"
"""The logger to which a Celery worker sends what is printed."""

_lock = threading.Lock()
_call_handlers: Any = None
_alone: JobContext | None = None
_thread = threading.local()


def begin(context: JobContext, *, prints: bool) -> None:
    """Keep lines of this attempt from now on. prints: also what it prints.

    A line belongs to the job in whose context it is logged; in a process that runs one job only,
    also one of a thread that the job has started.
    """
    global _alone
    if _call_handlers is None:
        _wrap_logging()
    if prints:
        _wrap_streams()
    if is_worker() and threading.current_thread() is threading.main_thread():
        _alone = context


def end(context: JobContext) -> None:
    """Lines without a job's context no longer belong to this one."""
    global _alone
    if _alone is context:
        _alone = None


def _job() -> JobContext | None:
    """The attempt to which a line of this thread belongs."""
    context = active.get(None) or _alone
    if context is None or not context.keep_log or getattr(_thread, "is_logging", False):
        return None
    return context


def _wrap_logging() -> None:
    global _call_handlers
    with _lock:
        if _call_handlers is None:
            _call_handlers = logging.Logger.callHandlers
            logging.Logger.callHandlers = _handle  # type: ignore[method-assign, assignment]


def _handle(logger: logging.Logger, record: logging.LogRecord) -> None:
    """In place of Logger.callHandlers. Nothing that is logged or printed meanwhile is kept: a
    handler prints the same line, and formatting it must not log others without end."""
    context = _job()
    if context is None or record.name == CELERY_STDOUT:
        _call_handlers(logger, record)
        return
    _thread.is_logging = True
    try:
        _call_handlers(logger, record)
    finally:
        try:
            level = text_of(record.levelname)
            context.log.add(record.created, level, text_of(record.name), _text(record))
            _write_first(context)
        finally:
            _thread.is_logging = False


def _write_first(context: JobContext) -> None:
    """Write the first line at once: that also lets a worker look for further ones."""
    if context.log.is_new and context.is_dirty:
        with suppress(Exception):  # a job does not fail since a line of its log can't be written
            context.flush()


def _text(record: logging.LogRecord) -> str:
    parts = []
    try:
        parts.append(text_of(record.getMessage()))
    except BaseException as error:  # the arguments and their __str__ may do anything
        parts.append(f"{text_of(record.msg)} (can't be formatted: {type(error).__name__})")
    info = record.exc_info
    if isinstance(info, tuple) and len(info) == 3 and isinstance(info[1], BaseException):
        parts.append(error_of(info[1]).traceback or "")
    if record.stack_info:
        parts.append(text_of(record.stack_info))
    return "\n".join(parts)


def _wrap_streams() -> None:
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), _Stream | None):
            with _lock:
                stream = getattr(sys, name)
                if not isinstance(stream, _Stream | None):
                    setattr(sys, name, cast(TextIO, _Stream(stream, name)))


class _Stream:
    """In place of sys.stdout or sys.stderr: passes everything on, and keeps a job's lines."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        context = _job()
        if context is not None:
            context.log.write(time.time(), self._name, text)
            _write_first(context)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
