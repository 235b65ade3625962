"""`flask offload prune` and `migrate`: what is done to the job database by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from ..payload.spool import show_bytes
from ..textui import show_jobs, show_number
from .common import app_command, current_state, echo_json, json_option

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


if TYPE_CHECKING:
    _FloatType = click.ParamType[float]
else:
    _FloatType = click.ParamType  # older releases of click have no generic one


class Age(_FloatType):
    """A length of time such as 90s, 30min, 12h, 7d or 2w; in seconds."""

    name = "age"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]+)", str(value).strip().lower())
        if isinstance(value, float):
            return value
        if found is None or found[2] not in UNITS:
            self.fail(f"{value!r} is not an age: write a number and {', '.join(UNITS)}", param, ctx)
        return float(found[1]) * UNITS[found[2]]


@app_command("prune")
@click.option(
    "--before", type=Age(), metavar="AGE", help="Jobs that finished longer ago, such as 7d or 12h."
)
@click.option("--all-finished", is_flag=True, help="Every finished job.")
@json_option
def prune(before: float | None, all_finished: bool, as_json: bool) -> None:
    """Delete finished jobs and release their disk space.

    Without an option: those whose retention time is over (OFFLOAD_KEEP_…), as workers do anyway.
    Deletes in small batches, so that the app can enqueue meanwhile. Waiting and running jobs are
    never deleted.
    """
    if before is not None and all_finished:
        raise click.UsageError("--before and --all-finished exclude each other.")
    state = current_state()
    is_all = all_finished or before is not None
    done = state.engine.prune(state.clock() - (before or 0.0) if is_all else None)
    if as_json:
        echo_json(done)
        return
    spooled = f" and {show_number(done.files, 'uploaded file')}" if done.files else ""
    click.echo(
        f"Deleted {show_jobs(done.jobs)}{spooled}. The database takes"
        f" {show_bytes(done.bytes_after)} now, before it took {show_bytes(done.bytes_before)}."
    )


@app_command("migrate")
def migrate() -> None:
    """Create the job tables, or bring them to this release's version.

    For engines with a server: run it with a role that may create tables, before an app whose role
    may not. Other apps do it themselves when they start. It may run again, and while others work.
    """
    current_state().engine.migrate()
    click.echo("The job tables are there, in this release's version.")
