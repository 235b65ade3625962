"""Odd values that a task may give to everything it can call, each in a job of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from flask_offload import Discard, Retry, current_job

from .app import offload


class Hostile:
    """An object of which nothing can be asked."""

    def __str__(self) -> NoReturn:
        raise SystemExit("no")

    __repr__ = __float__ = __index__ = __len__ = __iter__ = __str__


class Lying(str):
    def __str__(self) -> NoReturn:
        raise KeyboardInterrupt


VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**53, 2**63, 2**64, -(2**64), 10**400, 1e308, -1e308, 5e-324),
    *(math.inf, -math.inf, math.nan, Decimal("0.1"), Decimal("NaN"), Decimal("1e999")),
    *(Fraction(1, 3), 1j, "5", "", "\ud800", "\0", "x" * 1_000_000, b"\xff", bytearray(8)),
    *([], [1], {}, {"a": {1}}, {1}, (1, [2]), range(3), iter(()), object(), Hostile()),
    *(Lying("x"), Path("/"), int, print, Exception("x"), lambda: 1),
)


def _raise(error: BaseException) -> NoReturn:
    raise error


CALLS: dict[str, Callable[[Any], Any]] = {
    "progress": lambda value: current_job.progress(value),
    "total": lambda value: current_job.progress(1, value),
    "message": lambda value: current_job.progress(1, 2, value),
    "track": lambda value: list(current_job.track([1], total=value, message=value)),
    "checkpoint": lambda value: current_job.checkpoint(value),
    "retry": lambda value: _raise(Retry(value, after=value)),
    "discard": lambda value: _raise(Discard(value)),
    "error": lambda value: _raise(ValueError(value)),
    "note": lambda value: _raise(_noted(value)),
    "return": lambda value: value,
}


def _noted(value: Any) -> Exception:
    error = ValueError("noted")
    error.__notes__ = [value]
    return error


@offload.task(on_crash="fail", max_attempts=2, backoff=0.0)
def give_odd_value(call: str, index: int) -> Any:
    return CALLS[call](VALUES[index])
