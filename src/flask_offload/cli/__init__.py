"""The commands: `flask offload …`."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
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
    "prune": "maintenance:prune",
    "migrate": "maintenance:migrate",
    "check": "check:check",
    "spot": "spot:spot",
    "measure": "measure:measure_command",
}
"""Each command's module and name. A command is imported when it is called, so that a worker does
not import what only other commands use."""

GROUP = "flask_offload.commands"
"""The entry point group of further commands, `name = "module:command"`; the lab uses it."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(point.name for point in entry_points(group=GROUP))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command: Any
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name].partition(":")
            command = getattr(importlib.import_module(f".{module}", __package__), name)
        else:
            point = next(iter(entry_points(group=GROUP, name=cmd_name)), None)
            if point is None:
                return None
            command = point.load()
        assert isinstance(command, click.Command)
        return command


@click.group(name="offload", cls=_Group)
def offload_group() -> None:
    """Background jobs: run them, inspect them, and find the routes that need them."""
