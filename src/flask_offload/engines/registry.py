"""Which engine an app has: ours by name, others' by entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .base import Engine

if TYPE_CHECKING:
    from ..host import Host

GROUP = "flask_offload.engines"
"""Packages offer an engine as `name = "module:make"`, where `make(state) -> Engine`."""


def _sqlite(state: Host) -> Engine:
    from .sqlite import SqliteEngine

    config = state.config
    return SqliteEngine(
        state.database,
        durable=config.durability == "power",
        busy_timeout=config.busy_timeout,
        force=config.sqlite_force,
        keep_failed=config.keep_failed,
        clock=lambda: state.clock(),
    )


def _inline(state: Host) -> Engine:
    from .inline import InlineEngine

    return InlineEngine(state)


def _celery(state: Host) -> Engine:
    for package in ("celery", "redis"):
        if find_spec(package) is None:
            raise ConfigError(
                f"OFFLOAD_ENGINE = 'celery' needs {package}, which is not installed:"
                " pip install 'Flask-Offload[celery]'"
            )
    from .celery.engine import CeleryEngine

    return CeleryEngine(state)


OURS: dict[str, Callable[[Host], Engine]] = {
    "sqlite": _sqlite,
    "inline": _inline,
    "celery": _celery,
}


def make_engine(state: Host) -> Engine:
    """The engine that OFFLOAD_ENGINE names. Raises ConfigError."""
    name = state.config.engine
    if name in OURS:
        return OURS[name](state)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        make: Callable[[Host], Engine] = others[name].load()
        return make(state)
    known = ", ".join(sorted([*OURS, *others]))
    raise ConfigError(f"OFFLOAD_ENGINE = {name!r} is not installed; there are: {known}")
