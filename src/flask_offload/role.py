"""What this process is for: one that serves requests may start a worker, one that runs jobs not."""

from __future__ import annotations

from flask import has_request_context, request

_is_worker = False


def become_worker() -> None:
    """From here on this process is a worker's child."""
    global _is_worker
    _is_worker = True


def is_worker() -> bool:
    """Whether this process is a worker's child."""
    return _is_worker


def is_server_request() -> bool:
    """Whether a request of a server is being answered; those of test clients are not."""
    return has_request_context() and "SERVER_SOFTWARE" in request.environ
