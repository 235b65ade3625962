"""`flask offload jobs`: the list of jobs, once or as it changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import click

from ..engines.base import Engine, JobQuery
from ..errors import JobNotFound
from ..jobs.job import Job, JobStatus
from ..textui import ago, fit
from .bulk import filter_options, guesses
from .common import (
    app_command,
    current_state,
    echo_json,
    engine_with,
    json_option,
    paint,
    terminal_width,
)
from .document import job_json
from .jobs import details
from .terminal import table

MOST = 1000
SHORT_ID = 12
DETAILS = 200
"""Columns of a job's details where there is no terminal; --json has all of them."""
EVERY = 2.0
"""Seconds between two looks of --watch."""

COLOURS = {"RUNNING": "cyan", "SUCCESSFUL": "green", "FAILED": "red", "CANCELLED": "yellow"}
COLUMNS = ("id", "status", "task", "details", "queue", "enqueued")
LEAST = ("queue", "enqueued", "details")


@app_command("jobs")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, MOST),
    default=20,
    show_default=True,
    help="At most this many, the newest first.",
)
@click.option("--watch", is_flag=True, help="Show the list again every two seconds.")
@json_option
def jobs(as_json: bool, watch: bool, status: str | None, **wanted: Any) -> None:
    """List jobs, the newest first.

    On a terminal, ids are shortened to a unique beginning, which the other commands accept.
    """
    engine = engine_with("lists")
    query = JobQuery(status=None if status is None else JobStatus(status), **wanted)
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other.")
    if as_json:
        echo_json([job_json(_with_result(job)) for job in _listed(engine, query)])
        return
    if not watch:
        click.echo(_text(engine, query))
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            text = f"{_summary(engine)}\n\n{_text(engine, query)}\n"
            if terminal_width():  # written at once, so that nothing flickers
                text = f"\x1b[H\x1b[2J{text}"
            click.echo(text)
            time.sleep(EVERY)


def _listed(engine: Engine, query: JobQuery) -> list[Job]:
    return [current_state().job(record) for record in engine.list(query)]


def _text(engine: Engine, query: JobQuery) -> str:
    found = _listed(engine, query)
    if not found:
        is_narrow = query.status or query.task or query.queue_name or query.owner
        return f"No such jobs.{guesses(query.task, query.queue_name)}" if is_narrow else "No jobs."
    width, now = terminal_width(), current_state().clock()
    ids = [job.id for job in found]
    length = _unique_length(ids) if width else None
    rows = [
        (
            job.id[:length],
            job.status,
            job.task,
            fit(details(job, now, bars=bool(width)), DETAILS),
            job.queue_name,
            ago(now - job.enqueued_at.timestamp()),
        )
        for job in found
    ]
    return table(
        COLUMNS, rows, width=width, whole=("id", "status"), least=LEAST, paint=_with_colour
    )


def _summary(engine: Engine) -> str:
    counts = engine.count()
    shown = ", ".join(f"{counts.get(status, 0)} {status.lower()}" for status in JobStatus)
    return f"{time.strftime('%H:%M:%S')}  {shown}  (Ctrl-C ends this)"


def _with_colour(cell: str) -> str:
    """A cell that is a status, in its colour."""
    colour = COLOURS.get(cell.rstrip())
    return cell if colour is None else paint(cell, colour)


def _unique_length(ids: Sequence[str]) -> int:
    """The length at which the beginnings of these ids are unique, SHORT_ID at least."""
    length = SHORT_ID
    while len({job_id[:length] for job_id in ids}) < len(ids):
        length += 2
    return length


def _with_result(job: Job) -> Job:
    """A listed job with its result, which lists don't contain."""
    if job.status is JobStatus.SUCCESSFUL:
        with contextlib.suppress(JobNotFound):  # pruned since
            job.refresh()
    return job
