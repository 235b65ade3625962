"""What happened when, in all processes of the club: a file to which each appends lines."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Note:
    """One line. at: time.monotonic(), which all processes of a machine share."""

    at: float
    pid: int
    kind: str
    subject: str


class Journal:
    """The club's processes write it and the lab reads it.

    A line survives the kill -9 of its writer, and is so short that it is appended as a whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, kind: str, subject: str) -> None:
        """Append a line. kind: one word; subject: free text without line breaks."""
        line = f"{time.monotonic():.6f} {os.getpid()} {kind} {subject}\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    @contextmanager
    def span(self, kind: str, subject: str) -> Iterator[None]:
        """Two lines: `kind`-begin, and `kind`-end however the block ends."""
        self.note(f"{kind}-begin", subject)
        try:
            yield
        finally:
            self.note(f"{kind}-end", subject)


class Reader:
    """Reads a journal from its present end on; one per use, callable from any thread."""

    def __init__(self, journal: Journal) -> None:
        self._path = journal.path
        self._lock = threading.Lock()
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def new(self) -> list[Note]:
        """The lines since the last call, in the order in which they were written."""
        with self._lock:
            if not self._path.exists():
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
        return [_parse(line) for line in whole.decode().splitlines()]


def _parse(line: str) -> Note:
    at, pid, kind, subject = line.split(" ", 3)
    return Note(float(at), int(pid), kind, subject)
