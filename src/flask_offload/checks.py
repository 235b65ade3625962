"""What `flask offload check` finds: the settings, and what the engine reports of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from .engines.base import Finding
from .errors import ConfigError
from .state import AppState
from .tasks.alerts import find_alert
from .textui import show_number


def check_all(state: AppState) -> list[Finding]:
    """Every finding about the app's jobs, in a fixed order."""
    found = [*check_configuration(state), *state.engine.findings()]
    return found if state.transactions is None else [*found, *state.transactions.findings()]


def check_configuration(state: AppState) -> Iterator[Finding]:
    """The settings; unusable ones were refused when the app was made."""
    config, name = state.config, "configuration"
    settings = [f"engine {config.engine}"]
    if state.engine.flags.own_worker:  # elsewhere these two mean nothing
        settings += [f"worker {config.worker}", f"durability {config.durability}"]
    declared = ", ".join(
        [
            show_number(len(state.registry.tasks), "task"),
            show_number(len(state.registry.schedules), "schedule"),
        ]
    )
    yield Finding(name, "ok", ", ".join([*settings, declared]))
    if config.engine == "inline" and not (state.app.testing or state.app.debug):
        message = "OFFLOAD_ENGINE = 'inline' runs jobs inside of requests, and schedules don't fire"
        is_meant = config.inline_raise_errors is not None
        if not is_meant:
            message += ": set OFFLOAD_INLINE_RAISE_ERRORS to say that this is meant"
        yield Finding(name, "note" if is_meant else "problem", message)
    if state.engine.flags.own_worker and config.durability == "process":
        message = "OFFLOAD_DURABILITY = 'process': a power cut may lose the last accepted jobs"
        yield Finding(name, "note", message)
    if config.app is not None and not _is_importable(config.app):
        message = f"OFFLOAD_APP = {config.app!r} can't be imported by a worker: no such module"
        yield Finding(name, "problem", message)
    if config.alert is not None:
        try:
            find_alert(state.registry.tasks, config.alert)
        except ConfigError as error:
            yield Finding(name, "problem", str(error))


def _is_importable(target: str) -> bool:
    """Whether there is such a module, without running it."""
    module = target.partition(":")[0]
    if module.endswith(".py") or os.sep in module:
        return Path(module).exists()
    return bool(module) and find_spec(module.partition(".")[0]) is not None
