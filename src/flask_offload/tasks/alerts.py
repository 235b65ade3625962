"""The function or task that OFFLOAD_ALERT means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from werkzeug.utils import import_string

from ..errors import ConfigError
from .task import Task


def find_alert(
    tasks: Mapping[str, Task[Any, Any]], setting: str | Callable[..., Any]
) -> Callable[..., Any]:
    """The function or task of this OFFLOAD_ALERT; its module is imported. tasks: those of the app,
    by their names. Raises ConfigError."""
    if not isinstance(setting, str):
        return setting
    if setting in tasks:
        return tasks[setting]
    try:
        found = import_string(setting)
    except Exception as error:
        raise ConfigError(
            f"OFFLOAD_ALERT = {setting!r} is neither a task's name nor can it be imported"
            f" ({type(error).__name__}: {error}): write it as package.module.function"
        ) from error
    if not callable(found):
        raise ConfigError(
            f"OFFLOAD_ALERT = {setting!r} is {type(found).__name__}, which can't be called: name a"
            " function or a task"
        )
    return cast(Callable[..., Any], found)
