"""A line of a job's log, as it is stored and as apps read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from .moments import moment


class LogLine(msgspec.Struct, frozen=True):
    """A line that a job has logged or printed.

    number: counts the lines of the attempt from 1, also those that are no longer kept. at: in UTC.
    level: "INFO", "WARNING" and so on; "PRINT" for what was printed. logger: its name; "stdout" or
    "stderr" for what was printed. message: with the traceback, if there is one.
    """

    attempt: int
    number: int
    at: datetime
    level: str
    logger: str
    message: str


class StoredLine(NamedTuple):
    """A line as it is kept; at: unix seconds."""

    at: float
    level: str
    logger: str
    message: str


def stored_log(first: int, lines: Iterable[StoredLine]) -> str:
    """The lines of an attempt as JSON. first: the number of the first one."""
    return msgspec.json.encode((first, list(lines))).decode()


def log_lines(stored: Iterable[tuple[int, str]]) -> list[LogLine]:
    """What an engine keeps, (number of the attempt, `stored_log`), as lines."""
    return [
        LogLine(attempt, number, moment(at) or datetime.max.replace(tzinfo=UTC), *rest)
        for attempt, text in stored
        for first, lines in (_decode(text),)
        for number, (at, *rest) in enumerate(lines, first)
    ]


_decode = msgspec.json.Decoder(tuple[int, list[StoredLine]]).decode
