"""What happened when, in all processes of the sample app: a file to which each appends lines."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WORKING_ROUTES = ("/sync", "/thread", "/background")
"""Routes of the sample app whose requests cause work."""


@dataclass(frozen=True, slots=True)
class Note:
    """One line. at: time.monotonic(), which all processes of a machine share."""

    at: float
    pid: int
    kind: str
    subject: str


class Journal:
    """The sample app's processes write it and the lab reads it.

    A line survives the `kill -9` of its writer, and is short enough to be appended as a whole.
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


class JournalReader:
    """The notes of a journal since this reader was made. For one thread at a time."""

    def __init__(self, journal: Journal) -> None:
        self._path = journal.path
        self._offset = self._path.stat().st_size if self._path.exists() else 0
        self._notes: list[Note] = []

    @property
    def notes(self) -> list[Note]:
        """All of them so far, in the order in which they were written."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._notes += [_parse(line) for line in whole.decode().splitlines()]
        return list(self._notes)

    def count(self, kind: str, subjects: Collection[str] | None = None) -> int:
        """How many notes of this kind there are, about these subjects if given."""
        return sum(
            note.kind == kind and (subjects is None or note.subject in subjects)
            for note in self.notes
        )

    def durations(self, what: str) -> list[float]:
        """Milliseconds of every span of this kind that has ended."""
        begun: dict[str, float] = {}
        took = []
        for note in self.notes:
            if note.kind == f"{what}-begin":
                begun[note.subject] = note.at
            elif note.kind == f"{what}-end" and note.subject in begun:
                took.append((note.at - begun.pop(note.subject)) * 1000)
        return took

    def is_quiet(self) -> bool:
        """Whether all the work that requests have caused is done."""
        caused = sum(
            note.kind == "request-begin" and note.subject.startswith(WORKING_ROUTES)
            for note in self.notes
        )
        return self.count("work-end") >= caused


def _parse(line: str) -> Note:
    at, pid, kind, subject = line.split(" ", 3)
    return Note(float(at), int(pid), kind, subject)
