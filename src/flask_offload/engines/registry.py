"""Which engine an app has: ours by name, others' by entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from ..errors import ConfigError
from ..jobs.job import JobStatus
from .base import Engine
from .host import Host

GROUP = "flask_offload.engines"
"""Packages offer an engine as `name = "module:make"`, where `make(host: Host) -> Engine`."""


def _sqlite(state: Host) -> Engine:
    from .sqlite import SqliteEngine

    config = state.config
    return SqliteEngine(
        state.database,
        durable=config.durability == "power",
        busy_timeout=config.busy_timeout,
        force=config.sqlite_force,
        keep_cancelled=lambda task: state.keep_unsuccessful(task, JobStatus.CANCELLED),
        clock=lambda: state.clock(),
    )


def _inline(state: Host) -> Engine:
    from .inline import InlineEngine

    return InlineEngine(state)


OURS: dict[str, Callable[[Host], Engine]] = {
    "sqlite": _sqlite,
    "inline": _inline,
}


def make_engine(state: Host) -> Engine:
    """The engine that OFFLOAD_ENGINE names. Raises ConfigError."""
    name = state.config.engine
    if name in OURS:
        return OURS[name](state)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        return _outside(others[name], state)
    known = ", ".join(sorted([*OURS, *others]))
    raise ConfigError(
        f"OFFLOAD_ENGINE = {name!r} is not installed; there are: {known}. Another one is a package"
        f" with an entry point in the group {GROUP!r} (docs/engines.md)"
    )


def _outside(point: EntryPoint, state: Host) -> Engine:
    """An engine of somebody else's package."""
    place = f"OFFLOAD_ENGINE = {point.name!r}: its entry point {point.value}"
    try:
        make: Callable[[Host], Engine] = point.load()
    except Exception as error:
        raise ConfigError(
            f"{place} can't be loaded ({type(error).__name__}: {error}): mend or reinstall the"
            " package"
        ) from error
    engine = make(state)
    if not isinstance(engine, Engine):
        raise ConfigError(f"{place} gives {engine!r}, which is no flask_offload.engine_api.Engine")
    if engine.flags.own_worker:
        raise ConfigError(
            f"{place} gives an engine with the flag 'own_worker', which only the embedded one can"
            " have: set 'worker_command' and write work()"
        )
    return engine
