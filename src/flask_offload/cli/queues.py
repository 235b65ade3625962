"""`flask offload queues`, `pause`, `resume` and `schedules`."""

from __future__ import annotations

from typing import Any

import click

from ..engines.base import QueueInfo, ScheduleInfo
from ..jobs.job import moment
from ..tasks.options import check_queue_name
from ..tasks.schedule import next_after
from .common import (
    age,
    app_command,
    current_state,
    echo_json,
    echo_table,
    engine_with,
    json_option,
)


@app_command("queues")
@json_option
def queues(as_json: bool) -> None:
    """List the queues: how many jobs are ready and running in each, and which are paused."""
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
@json_option
def pause(queue_name: str, as_json: bool) -> None:
    """Start no more jobs of a queue, through restarts, until `resume`. Running ones go on."""
    _switch(queue_name, as_json, paused=True)


@app_command("resume")
@click.argument("queue_name", metavar="QUEUE")
@json_option
def resume(queue_name: str, as_json: bool) -> None:
    """Start jobs of a paused queue again."""
    _switch(queue_name, as_json, paused=False)


@app_command("schedules")
@json_option
def schedules(as_json: bool) -> None:
    """List the schedules, with the next and the last run of each.

    A schedule that the app no longer declares is an orphan: it does not run any more.
    """
    found = _schedules()
    if as_json:
        echo_json(found)
    elif not found:
        click.echo("No schedules: declare one with @offload.every(…).")
    else:
        now = current_state().clock()

        def shown(at: Any) -> str | None:
            return age(None if at is None else at.timestamp(), now)

        echo_table(
            ("schedule", "task", "when", "next run", "last run"),
            [
                (
                    row["name"],
                    row["task"],
                    row["schedule"],
                    shown(row["next_run"]) if row["registered"] else "never (orphan)",
                    shown(row["last_run"]) or "not yet",
                )
                for row in found
            ],
        )


# --- steps -------------------------------------------------------------------------------------


def _switch(queue_name: str, as_json: bool, *, paused: bool) -> None:
    engine = engine_with("pauses")
    check_queue_name(queue_name)
    known = {queue.name for queue in engine.queues()} | {
        task.options.queue_name for task in current_state().registry.tasks.values()
    }
    (engine.pause if paused else engine.resume)(queue_name)
    (now,) = (queue for queue in engine.queues() if queue.name == queue_name)
    if as_json:
        echo_json(_queue_json(now))
        return
    state = "paused" if paused else "resumed"
    click.echo(f"queue {queue_name} {state}; {now.ready} ready, {now.running} running")
    if queue_name not in known:
        names = ", ".join(sorted(known)) or "none"
        click.echo(f"No task uses this queue, and no job has been in it. Known: {names}.", err=True)


def _queue_json(queue: QueueInfo) -> dict[str, Any]:
    return {
        "name": queue.name,
        "ready": queue.ready,
        "running": queue.running,
        "paused_at": moment(queue.paused_at),
    }


def _schedules() -> list[dict[str, Any]]:
    """The declared schedules, and those in the database that are no longer declared."""
    known = {info.name: info for info in engine_with("schedules").schedules()}
    state = current_state()
    now = state.clock()
    rows = []
    for name, (schedule, task) in state.registry.schedules.items():
        info = known.pop(name, None)
        seen = info is not None and info.description == schedule.description
        following = info.next_run if info is not None and seen else next_after(schedule, now)
        rows.append(_row(name, task.name, schedule.description, following, info, registered=True))
    rows += [
        _row(info.name, info.task, info.description, None, info, registered=False)
        for info in known.values()
    ]
    return sorted(rows, key=lambda row: str(row["name"]))


def _row(
    name: str,
    task: str,
    description: str,
    next_run: float | None,
    info: ScheduleInfo | None,
    *,
    registered: bool,
) -> dict[str, Any]:
    return {
        "name": name,
        "task": task,
        "schedule": description,
        "next_run": moment(next_run),
        "last_run": moment(info.last_run) if info is not None else None,
        "last_job": info.last_job if info is not None else None,
        "registered": registered,
    }
