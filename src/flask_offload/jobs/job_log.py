"""The log of an attempt that runs: its last lines, bounded in number and in bytes."""

from __future__ import annotations

import threading
import time
from collections import deque

from .log_line import StoredLine, stored_log
from .reported import cut

MAX_LINE = 10_000
"""Characters of one line; of a longer one the beginning is kept."""
MAX_LOG = 64 * 1024
"""Bytes of the lines of one attempt; of more, the last are kept."""
MAX_ATTEMPTS = 10
"""The last attempts of a job whose lines are kept."""
MAX_PRINTED = 1_000_000
"""Characters of one write of which more than the end is looked at."""
WRITE_EVERY = 1.0
"""Seconds between two writes of new lines; the first of an attempt are written at once."""
ROW = 64
"""Bytes that a line takes beside its message."""


class AttemptLog:
    """The last lines of an attempt that runs. Any thread may add some. most: how many are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: deque[StoredLine] = deque()
        self._size = 0
        self._count = 0
        self._unfinished: dict[str, str] = {}  # printed lines without their end, by stream
        self._lock = threading.RLock()  # a signal handler may log, too
        self._has_new = False
        self._not_before = 0.0

    def add(self, at: float, level: str, logger: str, message: str) -> None:
        """Add a line. at: unix seconds."""
        text = cut(message[: MAX_LINE + 1], MAX_LINE)
        row = StoredLine(at, cut(level, 50), cut(logger, 200), text)
        with self._lock:
            self._rows.append(row)
            self._count += 1
            self._size += _size(row)
            while len(self._rows) > self._most or self._size > MAX_LOG:
                self._size -= _size(self._rows.popleft())
            self._has_new = True

    def write(self, at: float, stream: str, text: str) -> None:
        """Add the lines of what was printed, as a terminal would show them: what comes after a
        carriage return replaces what is before it. A line is added once it has ended."""
        with self._lock:
            *lines, rest = (self._unfinished.pop(stream, "") + text[-MAX_PRINTED:]).split("\n")
            for line in lines[-self._most :]:
                self.add(at, "PRINT", stream, _shown(line))
            if rest:
                end = "\r" if rest.endswith("\r") else ""
                self._unfinished[stream] = _shown(rest)[:MAX_LINE] + end

    def end(self, at: float) -> None:
        """Add the printed lines that have not ended; all that is new is due."""
        with self._lock:
            self._not_before = 0.0
            for stream in list(self._unfinished):
                self.write(at, stream, "\n")

    @property
    def is_new(self) -> bool:
        """Whether nothing has been taken yet."""
        return self._not_before == 0.0

    @property
    def is_due(self) -> bool:
        """Whether there are new lines, and the last were taken WRITE_EVERY seconds ago."""
        return self._has_new and time.monotonic() >= self._not_before

    def take(self) -> str | None:
        """All that is kept, as JSON, if it is due."""
        with self._lock:
            if not self.is_due:
                return None
            self._has_new = False
            self._not_before = time.monotonic() + WRITE_EVERY
            first = self._count - len(self._rows) + 1
            return stored_log(first, self._rows)


def _size(row: StoredLine) -> int:
    return len(row.message.encode()) + len(row.logger.encode()) + ROW


def _shown(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]
