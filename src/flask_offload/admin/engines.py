"""Which engine an app has: a built-in one by name, one of another package by entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from ..engines.base import Engine
from ..engines.host import Host
from ..errors import ConfigError

GROUP = "flask_offload.engines"
"""Packages offer an engine as `name = "module:make"`, where `make(host: Host) -> Engine`."""


def _sqlite(host: Host) -> Engine:
    from .sqlite import SqliteEngine

    return SqliteEngine.of(host)


def _inline(host: Host) -> Engine:
    from ..inline import InlineEngine

    return InlineEngine(host)


def _postgres(host: Host) -> Engine:
    try:
        from .postgres import PostgresEngine
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "psycopg":
            raise
        raise ConfigError(
            "OFFLOAD_ENGINE = 'postgres' needs psycopg, which is not installed:"
            " pip install 'Flask-Offload[postgres]'"
        ) from error
    return PostgresEngine.of(host)


BUILT_IN: dict[str, Callable[[Host], Engine]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "inline": _inline,
}


def make_engine(host: Host) -> Engine:
    """The engine that OFFLOAD_ENGINE names. Raises ConfigError."""
    name = host.config.engine
    if name in BUILT_IN:
        return BUILT_IN[name](host)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        return _outside(others[name], host)
    known = ", ".join(sorted([*BUILT_IN, *others]))
    raise ConfigError(
        f"OFFLOAD_ENGINE = {name!r} is not installed; there are: {known}. Another one is a package"
        f" with an entry point in the group {GROUP!r} (docs/engines.md)"
    )


def _outside(point: EntryPoint, host: Host) -> Engine:
    """An engine of another package."""
    place = f"OFFLOAD_ENGINE = {point.name!r}: its entry point {point.value}"
    try:
        make: Callable[[Host], Engine] = point.load()
    except Exception as error:
        raise ConfigError(
            f"{place} can't be loaded ({type(error).__name__}: {error}): fix or reinstall the"
            " package"
        ) from error
    engine = make(host)
    if not isinstance(engine, Engine):
        raise ConfigError(f"{place} gives {engine!r}, which is no flask_offload.engine_api.Engine")
    if engine.flags.own_worker and not engine.opener:
        raise ConfigError(
            f"{place} gives an engine with the flag 'own_worker' but without `opener`, by which a"
            " worker opens it; or set 'worker_command' and write work()"
        )
    return engine
