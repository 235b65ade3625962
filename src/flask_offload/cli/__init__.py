"""The commands: `flask offload …`."""

from __future__ import annotations

import importlib
from typing import Any

import click

COMMANDS = {
    "worker": "worker:worker",
    "jobs": "jobs:jobs",
    "job": "jobs:job",
    "retry": "jobs:retry",
    "cancel": "jobs:cancel",
    "pause": "queues:pause",
    "resume": "queues:resume",
    "queues": "queues:queues",
    "schedules": "queues:schedules",
    "prune": "upkeep:prune",
    "check": "check:check",
    "spot": "spot:spot",
    "measure": "..evidence.command:measure_command",
    "lab": "..lab.command:lab_command",
}
"""Each command's module and name; a command is imported when it is asked for, so that the worker
does not carry the lab around."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        path = module if module.startswith("..") else f".{module}"
        command: Any = getattr(importlib.import_module(path, __package__), name)
        assert isinstance(command, click.Command)
        return command


@click.group(name="offload", cls=_Group)
def offload_group() -> None:
    """Background jobs: run them, look at them, and see which routes need them."""
