"""A warning for apps without db=: a job is enqueued before the commit that it belongs to."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from flask import Flask

from ..jobs import log

PACKAGE = str(Path(__file__).parents[1])


class UnguardedSessions:
    """Looks at the session of the app's Flask-SQLAlchemy, in debug mode and in tests."""

    def __init__(self, app: Flask) -> None:
        self._places: set[tuple[str, int]] = set()
        self._is_watching = False
        if app.debug or app.testing:
            self._watch()

    def _watch(self) -> None:
        if "sqlalchemy" in sys.modules and not self._is_watching:
            from .writes import watch

            watch()
            self._is_watching = True

    def check(self, app: Flask) -> None:
        """Warn once for each place that enqueues while the session has changes which are not
        committed. app: the current one; asked itself, as its proxy would take longer."""
        if not app.debug and not app.testing:
            return
        self._watch()
        db = app.extensions.get("sqlalchemy")
        if db is None or not hasattr(db, "session"):
            return
        from .sessions import current_session, is_writing

        session = current_session(db)
        place = _caller()
        if session is not None and place not in self._places and is_writing(session):
            self._places.add(place)
            log.write(
                logging.WARNING,
                "enqueued_before_commit",
                "%s:%d enqueues a job while the session has changes that are not committed: the job"
                " may run before the commit, or without it. Write Offload(app, db=db), so that the"
                " job belongs to the transaction; or commit before the enqueue",
                *place,
            )


def _caller() -> tuple[str, int]:
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
