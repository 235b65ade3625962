"""Checks that an app's engine supports what the app asks for, by the engine's flags.

An option is refused when the task is declared or the app is created, a call when it is made.
Nothing is silently ignored, except what an engine for tests lists in `ignores`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Final

from .engines.base import Engine
from .errors import UnsupportedByEngine
from .tasks.options import TaskOptions

if TYPE_CHECKING:
    from .config import Config
    from .tasks.task import Task

FLAG_OF_OPTION: Final[Mapping[str, str]] = {
    "priority": "priorities",
    "isolate": "isolates",
    "unique": "unique",
    "unique_for": "unique",
    "unique_states": "unique",
    "concurrency": "limits",
    "concurrency_key": "limits",
    "rate": "limits",
    "rate_key": "limits",
    "keep": "retention",
    "result_ttl": "retention",
    "on_failure": "on_failure",
}
"""The flag that each option of a task needs, unless the option has its default."""

EVERY_ENGINE: Final = frozenset(
    {"queue_name", "retry", "timeout", "on_crash", "expose", "expose_args", "expires", "from_app"}
)
"""Options that need no flag."""


def check_task(engine: Engine, task: Task[Any, Any]) -> None:
    """Raise UnsupportedByEngine if the task has an option that the engine does not support."""
    for field in fields(TaskOptions):
        flag = FLAG_OF_OPTION.get(field.name)
        if flag is not None and getattr(task.options, field.name) != field.default:
            assert field.default is not MISSING
            require_flag(engine, flag, f"{field.name}= of the task {task.name}")


def check_using(engine: Engine, task: Task[Any, Any]) -> None:
    """The same for what `using()` has set."""
    if task.overrides.priority:
        require_flag(engine, "priorities", f"using(priority=) of the task {task.name}")
    if task.overrides.run_after is not None:
        require_flag(engine, "deferred", f"using(run_after=) of the task {task.name}")
    if task.overrides.keep is not None:
        require_flag(engine, "retention", f"using(keep=) of the task {task.name}")


def check_schedule(engine: Engine, name: str) -> None:
    """The same for a schedule."""
    require_flag(engine, "schedules", f"@offload.every, the schedule {name},")


def check_settings(engine: Engine, config: Config) -> None:
    """The same for the app's settings."""
    if config.worker == "thread":
        require_flag(engine, "own_worker", "OFFLOAD_WORKER = 'thread'")
    if config.outbox:
        require_flag(engine, "outbox", "OFFLOAD_OUTBOX = True")
    if config.alert is not None:
        require_flag(engine, "alerts", "OFFLOAD_ALERT")


def require_flag(engine: Engine, flag: str, what: str) -> None:
    """Raise UnsupportedByEngine unless the engine has the flag, or ignores it.

    what: what needs the flag, as it begins the error message.
    """
    if not getattr(engine.flags, flag) and flag not in engine.ignores:
        raise UnsupportedByEngine(
            f"{what} needs an engine with the flag {flag!r}, which the {engine.name} engine does"
            " not have: leave it out, or choose another OFFLOAD_ENGINE (docs/engines.md lists the"
            " flags)"
        )
