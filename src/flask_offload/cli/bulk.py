"""Changing all jobs that the options of a command describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ..admin.bulk import FLAGS, STATUSES, Action, change_all, matching
from ..engines.base import Engine, JobQuery
from ..errors import OffloadError
from ..jobs.job import JobStatus
from ..textui import show_jobs
from .common import current_state, echo_json, known_queues
from .terminal import did_you_mean

Command = TypeVar("Command", bound=Callable[..., Any])


def yes_option(function: Command) -> Command:
    """An option for those who know what they change."""
    return click.option("--yes", is_flag=True, help="Don't ask.")(function)


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which jobs are meant."""
    for option in (
        click.option("--owner", metavar="OWNER", help="Only jobs of this owner."),
        click.option("--queue", "queue_name", metavar="NAME", help="Only jobs of this queue."),
        click.option("--task", metavar="NAME", help="Only jobs of this task."),
        click.option(
            "--status",
            type=click.Choice([status.value for status in JobStatus], case_sensitive=False),
            help="Only jobs of this status.",
        ),
    ):
        function = option(function)
    return function


def guesses(task: str | None, queue_name: str | None) -> str:
    """A guess what was meant, where the app has no such task or queue but one spelled alike."""
    tasks = current_state().registry.tasks
    if task is not None and task not in tasks:
        return did_you_mean(task, tasks)
    if queue_name is not None and queue_name not in (queues := known_queues()):
        return did_you_mean(queue_name, queues)
    return ""


def refuse_both(wanted: Mapping[str, str | None]) -> None:
    """Raise OffloadError if ids were given together with options that describe jobs."""
    if any(wanted.values()):
        raise OffloadError("give ids, or options such as --status and --task: not both")


def change_matching(
    engine: Engine,
    action: Action,
    wanted: Mapping[str, str | None],
    *,
    as_json: bool,
    yes: bool,
    force: bool = False,
) -> None:
    """Count the jobs, ask, and change them. wanted: the values of `filter_options`."""
    if not any(wanted.values()):
        raise OffloadError("give ids, or say which jobs: --status, --task, --queue, --owner")
    for flag in ("lists", FLAGS[action]):
        if not getattr(engine.flags, flag):
            raise engine.unsupported(flag)
    status = None if wanted["status"] is None else JobStatus(wanted["status"])
    if status is not None and status not in STATUSES[action]:
        possible = " or ".join(STATUSES[action])
        raise OffloadError(f"{action} changes only jobs that are {possible}, not {status}")
    query = JobQuery(
        status=status,
        task=wanted["task"],
        queue_name=wanted["queue_name"],
        owner=wanted["owner"],
    )
    ids = matching(engine, action, query)
    if not as_json:
        guess = "" if ids else guesses(wanted["task"], wanted["queue_name"])
        click.echo(f"{show_jobs(len(ids))} to {action}.{guess}")
    if ids and not yes:
        if as_json:
            raise OffloadError(f"{show_jobs(len(ids))} to {action}: confirm with --yes")
        click.confirm("Go on?", abort=True)
    changed = change_all(engine, action, ids, force=force)
    if as_json:
        echo_json({"matching": len(ids), "changed": changed})
    elif ids:
        click.echo(f"{show_jobs(changed)} changed.")
