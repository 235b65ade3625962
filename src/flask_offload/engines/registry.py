"""Which engine an app has: a built-in one, or one of another package, both by an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from ..config import Config
from ..errors import ConfigError
from .base import Engine
from .host import Host

GROUP = "flask_offload.engines"
"""Packages offer an engine as `name = "module:make"`, where `make(host: Host) -> Engine`."""

BUILT_IN = {
    "sqlite": "flask_offload.admin.sqlite:SqliteEngine.of",
    "postgres": "flask_offload.admin.postgres:PostgresEngine.of",
    "inline": "flask_offload.inline:InlineEngine",
}


def make_engine(host: Host) -> Engine:
    """The engine that OFFLOAD_ENGINE names. Raises ConfigError."""
    name = host.config.engine
    if name in BUILT_IN:
        return _make(EntryPoint(name, BUILT_IN[name], GROUP), host)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        return _make(others[name], host)
    known = ", ".join(sorted([*BUILT_IN, *others]))
    raise ConfigError(
        f"OFFLOAD_ENGINE = {name!r} is not installed; there are: {known}. Another one is a package"
        f" with an entry point in the group {GROUP!r} (docs/engines.md)"
    )


def _make(point: EntryPoint, host: Host) -> Engine:
    place = f"OFFLOAD_ENGINE = {point.name!r}: its entry point {point.value}"
    try:
        make = point.load()
    except Exception as error:
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "psycopg":
            raise ConfigError(
                "OFFLOAD_ENGINE = 'postgres' needs psycopg, which is not installed:"
                " pip install 'Flask-Offload[postgres]'"
            ) from error
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


def open_engine(opener: str, database: str, config: Config) -> Engine:
    """Open an engine in a process that has not imported the app. opener: see Engine.opener."""
    engine: Engine = EntryPoint("opener", opener, GROUP).load()(database, config)
    return engine
