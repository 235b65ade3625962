"""What a task says about its job, as values that JSON and every store can carry."""

from __future__ import annotations

import math
import operator
import traceback
from typing import Any

from .job import Error

MAX_MESSAGE = 2_000
"""Characters of a progress message; it travels with every poll of the job."""
MAX_ERROR = 20_000
"""Characters of an error's message, and of its traceback."""
TRACEBACK_LINES = 60
MAX_EXACT = 2**53
"""The largest whole number that JSON readers in every language take exactly."""
MAX_NUMBER = 1e300


def number(value: Any, what: str) -> float:
    """A count as an int or a float. Decimal, Fraction and numpy's numbers are converted.

    Raises TypeError for what is not a number, ValueError for infinity, NaN and beyond MAX_NUMBER.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        pass
    else:
        if abs(whole) <= MAX_EXACT:
            return whole
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"{what} = {shown(value)}: give a number, not text")
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    except Exception as error:
        raise TypeError(f"{what} = {shown(value)}: give a number") from error
    if not abs(real) <= MAX_NUMBER:  # NaN compares false
        raise ValueError(f"{what} = {shown(value)}: give a finite number, up to {MAX_NUMBER:g}")
    return real


def message(value: Any) -> str:
    """Any object as the text of a progress message: `str()` of it, so that lazy strings work."""
    return cut(text_of(value), MAX_MESSAGE)


def text_of(value: object) -> str:
    """`str(value)`, whatever its `__str__` raises or returns."""
    try:
        return str.__str__(value) if isinstance(value, str) else str(value)
    except BaseException as error:  # SystemExit from a __str__ must not end the process
        return f"(its __str__ raised {type(error).__name__})"


def cut(text: str, most: int) -> str:
    """Text that a database and a terminal can take: no lone surrogates, no NULs, bounded."""
    plain = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def error_of(error: BaseException, *, without_file: str = "") -> Error:
    """An exception as text. without_file: a file whose own frames at the top are left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == without_file:
        trace = trace.tb_next
    try:
        shown = error.with_traceback(trace)
        lines = "".join(traceback.format_exception(shown)).splitlines()
    except BaseException as failed:  # a note, a cause or a frame may be anything
        lines = [f"(the traceback can't be shown: {type(failed).__name__})"]
    if len(lines) > TRACEBACK_LINES:
        half = TRACEBACK_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    name = cut(text_of(type(error).__name__), 200)
    return Error(name, cut(text_of(error), MAX_ERROR), cut("\n".join(lines), MAX_ERROR))


def shown(value: object) -> str:
    """`repr(value)` for an error message, whatever it raises or how long it is."""
    try:
        text = repr(value)
    except BaseException:
        text = f"a {type(value).__name__}"
    return cut(text, 80)
