"""`flask offload queues`, `pause`, `resume`, `schedules`, `disable`, `enable` and `run-now`."""

from __future__ import annotations

from typing import Any

import click

from ..dashboard.schedules import known_schedules
from ..engines.base import QueueInfo, ScheduleInfo
from ..errors import OffloadError
from ..jobs.job import moment
from ..state import AppState
from ..tasks.options import check_queue_name
from .bulk import yes_option
from .common import (
    age,
    app_command,
    current_state,
    echo_json,
    echo_table,
    engine_with,
    json_option,
    known_queues,
)
from .terminal import did_you_mean


@app_command("queues")
@json_option
def queues(as_json: bool) -> None:
    """List the queues, with their ready and running jobs.

    It also says which are paused.
    """
    found = list(engine_with("lists").queues())
    if as_json:
        echo_json([_queue_json(queue) for queue in found])
    elif not found:
        click.echo("No queues: no job has been enqueued yet.")
    else:
        now = current_state().clock()
        echo_table(
            ("queue", "ready", "running", "paused"),
            [(q.name, q.ready, q.running, age(q.paused_at, now)) for q in found],
        )


@app_command("pause")
@click.argument("queue_name", metavar="QUEUE")
@yes_option
@json_option
def pause(queue_name: str, as_json: bool, yes: bool) -> None:
    """Start no more jobs of a queue, until `resume`.

    The queue stays paused through restarts. Running jobs are finished.
    """
    _switch(queue_name, as_json, yes=yes, paused=True)


@app_command("resume")
@click.argument("queue_name", metavar="QUEUE")
@yes_option
@json_option
def resume(queue_name: str, as_json: bool, yes: bool) -> None:
    """Start jobs of a paused queue again."""
    _switch(queue_name, as_json, yes=yes, paused=False)


@app_command("schedules")
@json_option
def schedules(as_json: bool) -> None:
    """List the schedules, with the next and the last run of each.

    A schedule that the app no longer declares is an orphan: it does not run any more.
    """
    found = known_schedules(_state_with_schedules())
    if as_json:
        echo_json([_schedule_json(info) for info in found])
    elif not found:
        click.echo("No schedules: declare one with @offload.every(…).")
    else:
        now = current_state().clock()
        echo_table(
            ("schedule", "task", "when", "next run", "last run"),
            [
                (
                    info.name,
                    info.task,
                    info.description,
                    _next_run(info, now),
                    age(info.last_run, now) or "not yet",
                )
                for info in found
            ],
            least=("task", "when"),
        )


@app_command("disable")
@click.argument("name", metavar="SCHEDULE")
def disable(name: str) -> None:
    """Stop a schedule until `enable`.

    It makes no jobs, through restarts and deploys.
    """
    state = _state_with_schedules()
    info = _find_schedule(name)
    state.engine.disable_schedule(info)
    click.echo(f"schedule {info.name} is disabled: it makes no jobs until it is enabled again")


@app_command("enable")
@click.argument("name", metavar="SCHEDULE")
def enable(name: str) -> None:
    """Start a disabled schedule again.

    Times that have passed meanwhile are skipped.
    """
    state = _state_with_schedules()
    state.engine.enable_schedule(_find_schedule(name).name)
    info = _find_schedule(name)
    click.echo(f"schedule {info.name} is enabled; next run: {_next_run(info, state.clock())}")


@app_command("run-now")
@click.argument("name", metavar="SCHEDULE")
def run_now(name: str) -> None:
    """Enqueue a job of a schedule now.

    Its times do not change.
    """
    info = _find_schedule(name)
    declared = current_state().registry.schedules.get(info.name)
    if declared is None:
        raise OffloadError(f"this app no longer declares the schedule {info.name}")
    job = declared[1].enqueue()
    click.echo(f"job {job.id} of {job.task} is in the queue {job.queue_name}")


# --- steps -------------------------------------------------------------------------------------


def _switch(queue_name: str, as_json: bool, *, yes: bool, paused: bool) -> None:
    engine = engine_with("pauses")
    check_queue_name(queue_name)
    known = known_queues()
    if queue_name not in known and not yes:
        what = f"No task uses the queue {queue_name}, and no job has been in it."
        what += did_you_mean(queue_name, known)
        if as_json:
            raise OffloadError(f"{what} Confirm with --yes")
        names = f" Known: {', '.join(sorted(known))}." if known else ""
        click.echo(what + names, err=True)
        click.confirm(f"{'Pause' if paused else 'Resume'} it all the same?", abort=True, err=True)
    (engine.pause if paused else engine.resume)(queue_name)
    (now,) = (queue for queue in engine.queues() if queue.name == queue_name)
    if as_json:
        echo_json(_queue_json(now))
        return
    state = "paused" if paused else "resumed"
    click.echo(f"queue {queue_name} {state}; {now.ready} ready, {now.running} running")


def _queue_json(queue: QueueInfo) -> dict[str, Any]:
    return {
        "name": queue.name,
        "ready": queue.ready,
        "running": queue.running,
        "paused_at": moment(queue.paused_at),
    }


def _state_with_schedules() -> AppState:
    engine_with("schedules")
    return current_state()


def _find_schedule(name: str) -> ScheduleInfo:
    known = {info.name: info for info in known_schedules(_state_with_schedules())}
    if name not in known:
        raise OffloadError(f"there is no schedule {name!r}.{did_you_mean(name, known)}")
    return known[name]


def _next_run(info: ScheduleInfo, now: float) -> str | None:
    if info.name not in current_state().registry.schedules:
        return "never (orphan)"
    return "never (disabled)" if info.disabled_at is not None else age(info.next_run, now)


def _schedule_json(info: ScheduleInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "task": info.task,
        "schedule": info.description,
        "next_run": moment(info.next_run),
        "last_run": moment(info.last_run),
        "last_job": info.last_job,
        "disabled_at": moment(info.disabled_at),
        "registered": info.name in current_state().registry.schedules,
    }
