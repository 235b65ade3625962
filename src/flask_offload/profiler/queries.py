"""The SQL statements of a request: how many, how long they took, and which line repeats them.

SQLAlchemy reports each through its events (https://docs.sqlalchemy.org/en/20/core/events.html);
cursors of psycopg, PyMySQL, mysqlclient and sqlite3 count where the app uses them without it.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, NamedTuple

from .stacks import PACKAGE, UserCode, is_template

MAX_DIFFERENT = 500
"""Statements, by place, that are counted in one request; more count as the last one."""
MANY = 10
"""The same statement so often, from one line: it belongs into one."""

_PROFILER = PACKAGE + "profiler/"
_clock = time.perf_counter


class Query(NamedTuple):
    """A statement, the place in user code that causes it, how many times it ran, and its seconds.

    code, line: None and 0 when no user code did. module: the globals of that code.
    """

    statement: str
    code: CodeType | None
    line: int
    module: Mapping[str, Any]
    times: int
    seconds: float


class QueryLog:
    """The statements of one request. Only its own thread adds to it.

    ended: when the last one did.
    """

    def __init__(self, user_code: UserCode) -> None:
        self._user_code = user_code
        self._known: dict[tuple[str, CodeType | None, int], list[Any]] = {}
        self.began: float | None = None
        self.ended: float = 0.0

    def begin(self) -> bool:
        """A statement begins; False if it is part of another, which counts it."""
        if self.began is not None:
            return False
        self.began = _clock()
        return True

    def end(self, statement: str, frame: FrameType | None) -> None:
        """It is over; frame: where to look for the user's code that caused it."""
        if self.began is None:
            return
        self.ended = _clock()
        seconds, self.began = self.ended - self.began, None
        while frame is not None:
            if frame.f_code.co_filename.startswith(_PROFILER):
                frame = None  # the outer end of the request
                break
            if frame.f_code.co_filename.startswith(PACKAGE):
                return  # an enqueue on PostgreSQL: not the user's statement
            if frame.f_code.co_filename in self._user_code or is_template(frame.f_globals):
                break
            frame = frame.f_back
        place = (frame.f_code, frame.f_lineno) if frame is not None else (None, 0)
        key = (statement, *place)
        if key not in self._known and len(self._known) >= MAX_DIFFERENT:
            key = next(reversed(self._known))
        module = frame.f_globals if frame is not None else {}
        entry = self._known.setdefault(key, [module, 0, 0.0])
        entry[1] += 1
        entry[2] += seconds

    def queries(self) -> tuple[Query, ...]:
        """What was counted, the most frequent first."""
        found = (Query(*key, *entry) for key, entry in list(self._known.items()))
        return tuple(sorted(found, key=lambda query: -query.times))


class QueryListener:
    """Adds the statements of each thread to the log of the request that runs in it.

    log_of: the log of a thread's request, None while it has none. ended: called in that thread with
    the frame that has run a statement. Each library is listened to once it is imported; nothing of
    it is imported here.
    """

    def __init__(
        self, log_of: Callable[[int], QueryLog | None], ended: Callable[[FrameType], None]
    ) -> None:
        self._log_of = log_of
        self._ended = ended
        self._known: set[str] = set()

    def install(self) -> None:
        """Listen to the libraries that were imported since the last call."""
        for name, install in (
            ("sqlalchemy.engine", self._sqlalchemy),
            ("psycopg", lambda library: self._cursors(library.Cursor, library.ServerCursor)),
            ("pymysql.cursors", lambda library: self._cursors(library.Cursor)),
            ("MySQLdb.cursors", lambda library: self._cursors(library.BaseCursor)),
            ("sqlite3", self._sqlite3),
        ):
            if name not in self._known and name in sys.modules:
                self._known.add(name)
                install(sys.modules[name])

    def _sqlalchemy(self, engine: Any) -> None:
        event = sys.modules["sqlalchemy.event"]
        event.listen(engine.Engine, "before_cursor_execute", self._before)
        event.listen(engine.Engine, "after_cursor_execute", self._after)
        event.listen(engine.Engine, "handle_error", self._failed)

    def _before(self, *args: Any) -> None:
        log = self._log_of(get_ident())
        if log is not None:
            log.began = _clock()

    def _after(self, connection: Any, cursor: Any, statement: str, *args: Any) -> None:
        log = self._log_of(get_ident())
        if log is not None:
            self._end(log, statement, sys._getframe(1))

    def _failed(self, context: Any) -> None:
        log = self._log_of(get_ident())
        if log is not None:
            self._end(log, str(context.statement), sys._getframe(1))

    def _end(self, log: QueryLog, statement: str, frame: FrameType) -> None:
        log.end(statement, frame)
        self._ended(frame)

    def _cursors(self, *kinds: Any) -> None:
        """Count what cursors of these classes, written in Python, execute."""
        for kind in kinds:
            for method in ("execute", "executemany"):
                setattr(kind, method, self._timed(getattr(kind, method)))

    def _sqlite3(self, module: Any) -> None:
        connect, timed = module.connect, self._timed

        class TimedCursor(sqlite3.Cursor):
            execute = timed(sqlite3.Cursor.execute)
            executemany = timed(sqlite3.Cursor.executemany)

        class TimedConnection(sqlite3.Connection):
            execute = timed(sqlite3.Connection.execute)
            executemany = timed(sqlite3.Connection.executemany)

            def cursor(self, factory: Any = TimedCursor) -> Any:
                return super().cursor(factory)

        @functools.wraps(connect)
        def connect_timed(*args: Any, **kwargs: Any) -> Any:
            if len(args) < 6:
                kwargs.setdefault("factory", TimedConnection)
            return connect(*args, **kwargs)

        module.connect = connect_timed

    def _timed(self, execute: Callable[..., Any]) -> Any:
        """A method that runs a statement, which counts it."""

        @functools.wraps(execute)
        def timed(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            log = self._log_of(get_ident())
            if log is None or not log.begin():
                return execute(cursor, query, *args, **kwargs)
            try:
                return execute(cursor, query, *args, **kwargs)
            finally:
                text = query if isinstance(query, str) else str(query)
                self._end(log, text, sys._getframe(1))

        return timed
