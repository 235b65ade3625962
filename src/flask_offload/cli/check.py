"""`flask offload check`: find problems."""

from __future__ import annotations

import click

from ..checks import check_all
from ..engines.base import Finding
from ..errors import OffloadError
from ..textui import plain as printable
from .common import current_state, echo_json, enter_app, json_option, paint

COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command("check")
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Find problems in settings, database, workers and queues.

    Exit code 0 without a problem, 1 with one; notes are not problems.
    """
    try:
        enter_app(ctx)
        findings = check_all(current_state())
    except OffloadError as error:
        findings = [Finding("configuration", "problem", str(error))]
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        echo_json({"ok": not problems, "findings": findings})
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            level = paint(f"{finding.level:<7}", COLOURS[finding.level])
            click.echo(f"{level}  {finding.check:<{width}}  {printable(finding.message)}")
        click.echo("")
        click.echo("No problems." if not problems else f"Problems: {problems}.")
    if problems:
        ctx.exit(1)
