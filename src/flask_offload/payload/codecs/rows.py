"""Rows of the app's database: an SQLAlchemy model instance is encoded as class and primary key.

The job fetches the row again, so it sees the current values. SQLAlchemy is used only if the app
has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from flask import current_app

from ...errors import PayloadError, RowGone
from .base import (
    FetchFailed,
    Json,
    Packer,
    Packing,
    Refused,
    Unpacker,
    Unpacking,
)
from .classes import class_name, find_class, require_findable

JOINED: ContextVar[Any] = ContextVar("flask_offload_joined", default=None)
"""The SQLAlchemy session whose transaction the job will belong to: its rows are seen by the job,
because both are committed together."""

GetSession = Callable[[], Any]
"""Returns the SQLAlchemy session of the current app context, as a scoped_session does."""


def _is_model(cls: type) -> bool:
    sqlalchemy: Any = sys.modules.get("sqlalchemy")
    orm: Any = sys.modules.get("sqlalchemy.orm")
    if sqlalchemy is None or orm is None:
        return False
    return isinstance(sqlalchemy.inspect(cls, raiseerr=False), orm.Mapper)


def find_packer(cls: type) -> Packer | None:
    """The packer for a mapped class. Raises Refused if it can't be found again."""
    if not _is_model(cls):
        return None
    require_findable(cls)
    name = class_name(cls)

    def pack(walk: Packing, value: Any, depth: int) -> Json:
        state: Any = sys.modules["sqlalchemy"].inspect(value)
        if reason := _unsaved(state):
            raise Refused(f"is a {cls.__qualname__} that {reason}")
        return walk.tagged("row", name, walk.pack_all(state.identity, depth + 1))

    return pack


def _unsaved(state: Any) -> str | None:
    """Why another process could not see this row in its current state, and what to do about it;
    None if it can."""
    session = state.session
    is_joined = session is not None and session is JOINED.get()
    first = "flush" if is_joined else "commit"
    if not state.has_identity:
        return f"has not been saved: {first} first, then enqueue"
    if state.deleted or state.was_deleted or (session is not None and _is_deleted(state, session)):
        return "has been deleted: pass what the job needs of it, not the row"
    if is_joined:
        return None
    if state.modified:
        return "has unsaved changes: commit first, then enqueue"
    if session is not None:
        step = session.get_nested_transaction() or session.get_transaction()
        while step is not None and not _is_committed(step):
            # SQLAlchemy has no public API for "inserted, or changed, by this transaction"
            if state in getattr(step, "_new", ()) or state in getattr(step, "_dirty", ()):
                return "has been flushed but not committed: commit first, then enqueue"
            step = step.parent
    return None


def _is_committed(step: Any) -> bool:
    """Whether the transaction is committed, and merely not closed yet: as in the receivers of
    `after_commit` and of Flask-SQLAlchemy's `models_committed`."""
    return getattr(getattr(step, "_state", None), "name", "") == "COMMITTED"


def _is_deleted(state: Any, session: Any) -> bool:
    """Whether the session deletes the row with its next flush."""
    return any(row is state.object for row in session.deleted)


def row_unpacker(get_session: Callable[[], GetSession | None]) -> Unpacker:
    """The unpacker; `get_session` returns the value of Codecs.session when a row is fetched."""

    def unpack(walk: Unpacking, depth: int, name: str, packed: list[Json]) -> Any:
        cls = find_class(name, _is_model)
        identity = tuple(walk.unpack_all(packed, depth))
        sqlalchemy: Any = sys.modules["sqlalchemy"]
        if len(identity) != len(sqlalchemy.inspect(cls).primary_key):
            raise PayloadError(f"it holds a key that does not fit the primary key of {name}")
        hash(identity)  # as every real one has
        session = (get_session() or _app_session)()
        try:
            row = session.get(cls, identity, populate_existing=True)
        except Exception as error:
            if type(error) is sqlalchemy.exc.StatementError:  # the key is of another type
                raise
            raise FetchFailed(error) from error
        if row is None:
            key = identity[0] if len(identity) == 1 else identity
            raise RowGone(
                f"the {cls.__qualname__} with the primary key {key!r} does not exist:"
                " it was deleted, or not committed before the job was enqueued"
            )
        return row

    return unpack


def _app_session() -> Any:
    """Flask-SQLAlchemy's `db.session`, or that of an extension which registers the same way."""
    if not current_app:
        raise PayloadError("it holds a database row: decode it inside an app context")
    session = getattr(current_app.extensions.get("sqlalchemy"), "session", None)
    if session is None:
        raise PayloadError(
            "it holds a database row, but this app has no Flask-SQLAlchemy: set"
            " offload.codecs.session to a function that returns the session to use"
        )
    return session
