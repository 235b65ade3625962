"""`flask offload job ID --log`: the lines that a job has logged."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from ..jobs.job import Job
from ..jobs.log_line import LogLine
from ..textui import plain as printable
from .common import current_state, echo_json, engine_with
from .document import plain

LOOK_EVERY = 0.5
"""Seconds between two looks at the log of a running job; it is written about once a second."""


def show_log(job: Job, *, as_json: bool, follow: bool) -> None:
    """Print the lines. follow: and those that come, until the job has finished."""
    engine_with("logs")
    if as_json and follow:
        raise click.UsageError("--json prints one document: leave out --follow.")
    if as_json:
        echo_json(plain(job.log))
        return
    shown = (0, 0)
    while True:
        is_finished = job.is_finished  # read before the log, which is complete then
        attempts = job.attempts[-1].number if job.attempts else 1
        for line in job.log:
            if (line.attempt, line.number) > shown:
                for text in _texts(line, shown, names_attempt=line.attempt + attempts > 2):
                    click.echo(printable(text))
                shown = (line.attempt, line.number)
        if not follow or is_finished:
            break
        time.sleep(LOOK_EVERY)
        job.refresh()
    if shown == (0, 0):
        click.echo(_nothing(job), err=True)


def _texts(line: LogLine, before: tuple[int, int], *, names_attempt: bool) -> Iterator[str]:
    attempt, number = before
    if line.attempt != attempt:
        number = 0
        if names_attempt:
            yield f"attempt {line.attempt}:"
    if line.number > number + 1:
        yield f"({line.number - number - 1:,} lines before are not kept)"
    first, *others = line.message.split("\n")
    clock = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    yield f"{clock} {line.level:<8}{line.logger}: {first}"
    yield from (f"    {text}" for text in others)


def _nothing(job: Job) -> str:
    if not current_state().config.keep_log:
        return "No lines: OFFLOAD_KEEP_LOG is 0."
    if not job.attempts and not job.is_finished:
        return "No lines: the job has not started."
    return "No lines: the job has logged nothing, at the levels that the app logs."
