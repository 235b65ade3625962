"""Shared by the commands: the app, errors as one sentence, tables and JSON."""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import click
from flask import Flask, current_app
from flask.cli import ScriptInfo

from ..engines.base import Engine
from ..errors import OffloadError
from ..jobs.document import plain
from ..state import AppState, state_of
from ..textui import ago, table
from ..textui import plain as printable

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
MIN_PREFIX = 8
"""The shortest prefix of a job's id that is accepted, in characters."""

json_option: Callable[[AnyFunction], AnyFunction] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document."
)


class AppCommand(click.Command):
    """A command in the app's context. An OffloadError is printed as one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Load the app and run the command."""
        try:
            enter_app(ctx)
            return super().invoke(ctx)
        except OffloadError as error:
            raise click.ClickException(printable(str(error))) from None


def app_command(name: str) -> Callable[[AnyFunction], click.Command]:
    """Decorate a function as the command `name`, which needs the app."""
    return click.command(name, cls=AppCommand)


def enter_app(ctx: click.Context) -> Flask:
    """The app, its context pushed for as long as the command runs.

    Raises OffloadError for settings that can't be used, and ClickException when there is no app.
    """
    if current_app:
        return cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]
    try:
        app = ctx.ensure_object(ScriptInfo).load_app()
    except (OffloadError, click.ClickException):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        raise click.ClickException(f"the app can't be imported: {printable(what)}") from None
    ctx.with_resource(app.app_context())
    return app


def current_state() -> AppState:
    """The current app's state. Raises NotInitialized."""
    return state_of(current_app._get_current_object())  # type: ignore[attr-defined]


def engine_with(flag: str) -> Engine:
    """The current app's engine. Raises UnsupportedByEngine if it does not have the flag."""
    engine = current_state().engine
    if not getattr(engine.flags, flag):
        raise engine.unsupported(flag)
    return engine


def full_id(engine: Engine, prefix: str) -> str:
    """The id of the one job whose id has this prefix; the prefix itself if there is none."""
    found = engine.ids(prefix) if len(prefix) >= MIN_PREFIX else ()
    if len(found) > 1:
        raise OffloadError(f"{prefix} is the prefix of several jobs' ids: give more characters")
    return found[0] if found else prefix


# --- output ------------------------------------------------------------------------------------


def terminal_width() -> int | None:
    """Columns of the terminal; None if the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def echo_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, at most as wide as the terminal."""
    click.echo(table(headers, rows, width=terminal_width()))


def echo_json(value: Any) -> None:
    """Print one JSON document, in ASCII, so that it contains no control characters."""
    click.echo(json.dumps(plain(value), indent=2))


def age(seconds: float | None, now: float) -> str | None:
    """A unix time as an age: "3 min ago"."""
    return None if seconds is None else ago(now - seconds)


def when(at: datetime | None, now: float) -> str | None:
    """A time as a date with its age."""
    if at is None:
        return None
    text = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{text} ({ago(now - at.timestamp())})"
