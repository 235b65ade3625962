"""The commands: `flask offload …`."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

import click

from .terminal import did_you_mean

COMMANDS = {
    "worker": "worker:worker",
    "jobs": "listing:jobs",
    "job": "jobs:job",
    "retry": "jobs:retry",
    "cancel": "jobs:cancel",
    "discard": "jobs:discard",
    "pause": "queues:pause",
    "resume": "queues:resume",
    "queues": "queues:queues",
    "schedules": "queues:schedules",
    "disable": "queues:disable",
    "enable": "queues:enable",
    "run-now": "queues:run_now",
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            guess = did_you_mean(args[0], self.list_commands(ctx))
            if not guess or "did you mean" in error.message.lower():
                raise
            raise click.UsageError(f"{error.message}{guess}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its first sentence, which is wrapped where others cut it."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(limit=1000))
                    for name, command in commands.items()
                    if command is not None and not command.hidden
                ]
            )


@click.group(
    name="offload",
    cls=_Group,
    short_help="Background jobs: run them, inspect them, find the routes that need them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def offload_group() -> None:
    """Background jobs: run them, inspect them, and find the routes that need them."""
