"""The part of an apsw connection that is used here, typed for rows with known columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Cursor(Protocol):
    """The rows of a statement."""

    def fetchall(self) -> list[tuple[Any, ...]]: ...
    def fetchone(self) -> Any: ...
    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...
    @property
    def get(self) -> Any: ...


class Connection(Protocol):
    """A connection inside a transaction of `Database`."""

    def execute(self, statements: str, bindings: tuple[Any, ...] = ..., /) -> Cursor: ...
    def executemany(self, statements: str, rows: Iterable[tuple[Any, ...]], /) -> Cursor: ...
    def last_insert_rowid(self) -> int: ...
