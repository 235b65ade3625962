"""`flask offload lab` and `python -m flask_offload.lab`: the table first, then the lesson."""

from __future__ import annotations

import sys

import click

from .bench import Bench
from .demo import measure, render


@click.command("lab")
@click.option("--once", is_flag=True, help="Print the table and end: 0 if its claims held, else 1.")
def lab_command(once: bool) -> None:
    """See it: a slow route becomes fast, with real mail and real photos, on this machine."""
    with Bench("http://127.0.0.1:1") as bench:
        table = measure(bench, say=lambda text: click.echo(f"  {text}", err=True))
        click.echo(render(table))
        if once:
            sys.exit(0 if table.held else 1)
