"""What this process is for: one that runs jobs must not start a worker of its own."""

from __future__ import annotations

_is_worker = False


def become_worker() -> None:
    """From here on this process is a worker's child."""
    global _is_worker
    _is_worker = True


def is_worker() -> bool:
    """Whether this process is a worker's child."""
    return _is_worker
