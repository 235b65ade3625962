"""`flask offload lab` and `python -m flask_offload_lab`: the table first, then the lesson."""

from __future__ import annotations

import functools
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from . import PORT


@click.command("lab")
@click.option("--once", is_flag=True, help="Print the table and end: 0 if its claims held, else 1.")
@click.option("--json", "as_json", is_flag=True, help="The table as one JSON document.")
@click.option("--no-table", is_flag=True, help="Serve the lab at once, without the table first.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Default: {PORT}, else a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--expose", is_flag=True, help="Allow an address that other machines can reach.")
@click.option(
    "--build", type=click.Path(path_type=Path), help="Create the project of the mode Build here."
)
@click.option("--app", "user_app", metavar="APP", help="Check the three tips on this app too.")
def lab_command(
    once: bool,
    as_json: bool,
    no_table: bool,
    port: int | None,
    host: str,
    expose: bool,
    build: Path | None,
    user_app: str | None,
) -> None:
    """Serve the lab: real work, measured on your machine.

    Prints a table that is measured now, and serves the lab: a lesson in ten modes.
    """
    _check_extra()
    from flask_offload.errors import OffloadError

    from .demo import render
    from .server import LabServer

    stop = threading.Event()
    signal.signal(signal.SIGTERM, functools.partial(on_sigterm, stop))
    try:
        with LabServer(host, port, expose=expose, project=build, user_app=user_app) as server:
            if not no_table:
                click.echo("Measuring, for less than a minute:", err=True)
                table = server.measure(lambda text: click.echo(f"  {text}", err=True))
                click.echo(json.dumps(table.document()) if as_json else f"\n{render(table)}\n")
                if once:
                    sys.exit(0 if table.held else 1)
            click.echo(f"The lab: {server.origin}/   (Ctrl-C ends it)")
            server.serve(stop)
    except OffloadError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("")


def _check_extra() -> None:
    """Report in one line what is missing, rather than in a traceback."""
    try:
        import aiosmtpd  # noqa: F401
        import PIL  # noqa: F401
        import pygments  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f'The lab needs {error.name}: pip install "Flask-Offload[lab]"'
        ) from None


def on_sigterm(stop: threading.Event, number: int, frame: FrameType | None) -> None:
    """A signal handler that ends the lab like Ctrl-C, so that its other processes end too.

    Python drops an exception that a signal handler raises inside a callback of the garbage
    collector; hence the event.
    """
    stop.set()
    sys.exit(0)
