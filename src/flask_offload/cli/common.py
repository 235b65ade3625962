"""Shared by the commands: the app, errors as one sentence, tables and JSON."""

from __future__ import annotations

import json
import os
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
from ..errors import JobNotFound, OffloadError
from ..jobs.job import JobRecord
from ..state import AppState, state_of
from ..textui import ago
from ..textui import plain as printable
from .document import plain
from .terminal import table

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
ID_LENGTH = 44
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


def find_job(engine: Engine, text: str) -> JobRecord:
    """The job with this id, or the one whose id begins so, as lists and the log show it. Raises
    JobNotFound, and OffloadError if there are several."""
    text = text.strip().removeprefix("#").rstrip("…")
    try:
        return engine.get(text)
    except JobNotFound:
        if len(text) >= ID_LENGTH:
            raise
    found = engine.ids(text) if len(text) >= MIN_PREFIX else ()
    if len(found) == 1:
        return engine.get(found[0])
    if found:
        raise OffloadError(f"{text} is the prefix of several jobs' ids: give more characters")
    if len(text) < MIN_PREFIX:
        raise JobNotFound(
            f"there is no job {text!r}: give its id, or at least the first {MIN_PREFIX}"
            " characters of it"
        )
    raise JobNotFound(f"there is no job {text!r}, nor one whose id begins so")


def known_queues() -> set[str]:
    """The queues that had jobs, and those of the app's tasks."""
    state = current_state()
    return {queue.name for queue in state.engine.queues()} | {
        task.options.queue_name for task in state.registry.tasks.values()
    }


# --- output ------------------------------------------------------------------------------------


def terminal_width() -> int | None:
    """Columns of the terminal; None if the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def paint(text: str, colour: str) -> str:
    """The text in a colour, on terminals that show colours and whose user wants them (NO_COLOR)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(text, fg=colour) if is_wanted and sys.stdout.isatty() else text


def echo_table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, least: Sequence[str] = ()
) -> None:
    """Print a table, at most as wide as the terminal. least: columns that are left out, in this
    order, where it is too narrow."""
    click.echo(table(headers, rows, width=terminal_width(), least=least))


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
