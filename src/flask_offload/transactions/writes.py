"""Whether the open transaction of an SQLAlchemy connection has written: by ORM, Core or raw SQL."""

from __future__ import annotations

import functools
import re
import weakref
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, object_mapper

_NOISE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$", re.S
)
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)", re.I)
_CHANGES = re.compile(
    r"(?<!for )(?<!for no key )\b(insert|update|delete|merge|replace|into)\b", re.I
)
READS = frozenset(
    (
        *("select", "values", "table", "show", "describe", "desc", "explain", "pragma", "set"),
        *("reset", "use", "begin", "start", "commit", "rollback", "savepoint", "release"),
        *("fetch", "move", "close", "declare", "listen", "unlisten", "discard"),
    )
)
MAY_CONTAIN_CHANGES = frozenset({"with", "explain"})


@functools.lru_cache(maxsize=1000)
def is_write(statement: str) -> bool:
    """Whether SQL text changes data. A function that does so inside a SELECT is not seen."""
    plain = _NOISE.sub(" ", statement)
    return any(_is_write(part) for part in plain.split(";") if part.strip())


def _is_write(statement: str) -> bool:
    found = _FIRST_WORD.match(statement)
    word = found[1].lower() if found is not None else ""
    if word in MAY_CONTAIN_CHANGES:
        return _CHANGES.search(statement) is not None
    if word == "select":
        return re.search(r"\binto\b", statement, re.I) is not None
    return word not in READS


def has_writes(connection: Connection) -> bool:
    """Whether its open transaction has written, apart from savepoints that were rolled back."""
    return any(_levels.get(connection, ()))


def has_pending(session: Session, engine: Engine) -> bool:
    """Whether a flush would write to this engine."""
    changed = [item for item in session.dirty if session.is_modified(item)]
    return any(
        _engine(session.get_bind(object_mapper(item))) is engine
        for item in (*session.new, *session.deleted, *changed)
    )


def _engine(bind: Engine | Connection) -> Engine:
    return bind.engine


# For each connection: whether its transaction, and each open savepoint in it, has written.
_levels: weakref.WeakKeyDictionary[Connection, list[bool]] = weakref.WeakKeyDictionary()


def _begin(connection: Connection, *_: Any) -> None:
    _levels[connection] = [False]


def _end(connection: Connection, *_: Any) -> None:
    _levels.pop(connection, None)


def _savepoint(connection: Connection, name: str | None) -> None:
    _levels.setdefault(connection, [False]).append(False)


def _rollback_savepoint(connection: Connection, name: str, context: None) -> None:
    levels = _levels.get(connection, [])
    if len(levels) > 1:
        levels.pop()


def _release_savepoint(connection: Connection, name: str, context: None) -> None:
    levels = _levels.get(connection, [])
    if len(levels) > 1:
        has_written = levels.pop()
        levels[-1] |= has_written


def _executed(
    connection: Connection,
    cursor: Any,
    statement: str,
    parameters: Any,
    context: Any,
    executemany: bool,
) -> None:
    levels = _levels.setdefault(connection, [False])
    if not levels[-1]:
        is_changing = context.isinsert or context.isupdate or context.isdelete or context.isddl
        levels[-1] = bool(is_changing) or is_write(statement)


def _begin_twophase(connection: Connection, xid: Any) -> None:
    _begin(connection)


def _end_twophase(connection: Connection, xid: Any, is_prepared: bool) -> None:
    _end(connection)


@functools.cache
def watch() -> None:
    """Note the writes of all connections of this process from now on."""
    event.listen(Engine, "begin", _begin)
    event.listen(Engine, "begin_twophase", _begin_twophase)
    event.listen(Engine, "savepoint", _savepoint)
    event.listen(Engine, "rollback_savepoint", _rollback_savepoint)
    event.listen(Engine, "release_savepoint", _release_savepoint)
    event.listen(Engine, "after_cursor_execute", _executed)
    for name in ("commit", "rollback"):
        event.listen(Engine, name, _end)
    for name in ("commit_twophase", "rollback_twophase"):
        event.listen(Engine, name, _end_twophase)
