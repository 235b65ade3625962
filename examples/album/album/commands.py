"""What the operator types: `flask --app album init-db`, `flask --app album clean-up`."""

from __future__ import annotations

import click
from flask import Blueprint

from .extensions import db
from .tasks import clean_up as clean_up_task

commands = Blueprint("commands", __name__, cli_group=None)


@commands.cli.command("init-db")
def init_db() -> None:
    """Make the tables; those that exist stay as they are."""
    db.create_all()
    click.echo("The tables are there.")


@commands.cli.command("clean-up")
def clean_up() -> None:
    """Have old originals deleted now, rather than at three in the night."""
    click.echo(f"Job {clean_up_task.enqueue().id} will do it.")
