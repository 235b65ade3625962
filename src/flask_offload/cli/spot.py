"""`flask offload spot`: which routes block, and in which function."""

from __future__ import annotations

import click

from ..profiler import forget_samples, route_rows, spot_rows
from ..textui import plain
from .common import (
    app_command,
    current_state,
    echo_json,
    echo_table,
    json_option,
)


@app_command("spot")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most this many."
)
@click.option("--forget", is_flag=True, help="Delete the samples, to start again after a change.")
@json_option
def spot(limit: int, forget: bool, as_json: bool) -> None:
    """List the routes that block, and the function to move.

    The worst come first. It uses samples of the last 7 days, from requests slower than
    OFFLOAD_SPOT_ABOVE; they are taken in debug and testing mode, and elsewhere if OFFLOAD_SPOT is
    set.
    """
    state = current_state()
    settings = state.profiler_settings()
    assert settings.store_path is not None
    if forget:
        forget_samples(settings.store_path)
    rows = spot_rows(settings.store_path)[:limit]
    if as_json:
        echo_json(rows)
    elif rows:
        echo_table(
            ("route", "requests", "p50 ms", "p95 ms", "share", "advice", "function", "at"),
            [
                (
                    row.route,
                    row.count,
                    round(row.p50_ms),
                    round(row.p95_ms),
                    f"{row.share * 100:.0f}%",
                    row.advice,
                    row.function,
                    f"{row.file}:{row.line}" if row.file else "",
                )
                for row in rows
            ],
        )
        click.echo()
        for row in rows:
            click.echo(f"- {plain(row.sentence)}")
    elif settings.spot or route_rows(settings.store_path):
        click.echo(f"No request was slower than {settings.spot_above_ms:g} ms so far.")
    elif settings.spot is None:
        click.echo(
            "No request was sampled so far. Profiling is on in debug mode (flask run --debug);"
            " elsewhere, OFFLOAD_SPOT = 0.1 samples every tenth request."
        )
    else:
        click.echo(
            "No request was sampled: profiling is off here (OFFLOAD_SPOT). It is on in debug mode;"
            " in production, OFFLOAD_SPOT = 0.1 samples every tenth request."
        )
