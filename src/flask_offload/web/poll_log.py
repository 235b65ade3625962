"""Polls of a waiting page and the like don't fill the log of Flask's development server."""

from __future__ import annotations

import logging
import re

from flask import Flask

SUCCESSFUL = ("200", "202", "304")


class _PollFilter(logging.Filter):
    """Drops the lines of successful GET requests for a job's resource. prefix: of its address."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self._poll = re.compile(rf"GET \S*{re.escape(prefix)}/jobs/[^/\s]+ ")

    def filter(self, record: logging.LogRecord) -> bool:
        """Werkzeug's arguments are the request's first line, perhaps in colour, code and size."""
        args = record.args
        if (
            not isinstance(args, tuple)
            or len(args) < 2
            or str(args[1]) not in ("200", "202", "304")
        ):
            return True
        return not self._poll.search(str(args[0]))


def quieten(app: Flask, prefix: str) -> None:
    """In debug mode, where the development server is in use."""
    logger = logging.getLogger("werkzeug")
    known = {each.prefix for each in logger.filters if isinstance(each, _PollFilter)}
    if app.debug and prefix not in known:
        logger.addFilter(_PollFilter(prefix))
