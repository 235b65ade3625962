"""The role of this process: web processes may start a worker, worker processes may not."""

from __future__ import annotations

from flask import has_request_context, request

_is_worker = False


def become_worker() -> None:
    """Mark this process as one that runs jobs."""
    global _is_worker
    _is_worker = True


def is_worker() -> bool:
    """Whether this process runs jobs."""
    return _is_worker


def is_server_request() -> bool:
    """Whether a web server's request is being handled; those of test clients don't count."""
    return has_request_context() and "SERVER_SOFTWARE" in request.environ
