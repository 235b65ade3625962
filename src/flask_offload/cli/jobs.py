"""`flask offload job`, `retry`, `cancel` and `discard`: inspect and change jobs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import click

from ..dashboard.masking import Masking
from ..engines.base import Engine
from ..errors import OffloadError, WaitTimeout
from ..jobs.job import Attempt, Error, Job, JobRecord, JobStatus
from ..state import AppState
from ..textui import ago, duration, fit
from ..textui import plain as printable
from .bulk import change_matching, filter_options, refuse_both, yes_option
from .common import (
    app_command,
    current_state,
    echo_json,
    engine_with,
    find_job,
    json_option,
    when,
)
from .document import job_json, plain
from .job_log import show_log
from .terminal import bar

FORCED_WITHIN = 15.0
"""Seconds in which a living worker replaces the process of a job."""
ARGUMENTS_SHOWN = 2000


@app_command("job")
@click.argument("job_id", metavar="ID")
@click.option("--log", "only_log", is_flag=True, help="Show the lines that it has logged instead.")
@click.option("--follow", is_flag=True, help="With --log: go on until the job has finished.")
@json_option
def job(job_id: str, as_json: bool, only_log: bool, follow: bool) -> None:
    """Show a job: its attempts, errors and result.

    A prefix of an id is enough if it is unique.
    """
    state = current_state()
    engine = state.engine
    if follow and not only_log:
        raise click.UsageError("--follow goes with --log.")
    found = _job(find_job(engine, job_id))
    if only_log:
        show_log(found, as_json=as_json, follow=follow)
        return
    stored = engine.arguments(found.id) if engine.flags.lists else None
    if as_json:
        arguments = None if stored is None else json.loads(stored)
        log = plain(found.log) if engine.flags.logs else None
        echo_json({**job_json(found), "arguments": arguments, "log": log})
    else:
        call = "" if stored is None else _call(state, found.task, stored)
        click.echo("\n".join(_described(found, call, state.clock())))


@app_command("retry")
@click.argument("job_ids", metavar="[ID…]", nargs=-1)
@filter_options
@yes_option
@json_option
def retry(job_ids: tuple[str, ...], as_json: bool, yes: bool, **wanted: str | None) -> None:
    """Run FAILED or CANCELLED jobs again.

    Their attempts are counted from 1 again. Give ids, or options that say which jobs are meant:
    `--status failed --task shop.send`.
    """
    engine = engine_with("retries")
    if not job_ids:
        change_matching(engine, "retry", wanted, as_json=as_json, yes=yes)
        return
    refuse_both(wanted)
    _for_each(engine, job_ids, as_json, Job.retry, _after_retry)


@app_command("discard")
@click.argument("job_ids", metavar="[ID…]", nargs=-1)
@filter_options
@yes_option
@json_option
def discard(job_ids: tuple[str, ...], as_json: bool, yes: bool, **wanted: str | None) -> None:
    """Delete jobs that have ended, by id or by options.

    Their results and logs go with them: `flask offload discard --status failed --task shop.send`.
    Jobs that wait or run are not deleted: cancel them first.
    """
    engine = engine_with("discards")
    if not job_ids:
        change_matching(engine, "discard", wanted, as_json=as_json, yes=yes)
        return
    refuse_both(wanted)

    def discard_one(job: Job) -> Job:
        if not engine.discard_many([job.id]):
            raise OffloadError(f"job {job.id} is {job.status}: cancel it first")
        return job

    _for_each(engine, job_ids, as_json, discard_one, lambda job: f"job {job.id} is discarded")


@app_command("cancel")
@click.argument("job_ids", metavar="[ID…]", nargs=-1)
@filter_options
@yes_option
@click.option(
    "--force", is_flag=True, help="Stop a running job even if it does not reach a checkpoint."
)
@json_option
def cancel(
    job_ids: tuple[str, ...], force: bool, as_json: bool, yes: bool, **wanted: str | None
) -> None:
    """Cancel jobs, by id or by options.

    A waiting job never starts. A running one is asked to stop at its next checkpoint; with --force
    its process is replaced, and the other jobs in it are put back.
    """
    engine = current_state().engine
    if not job_ids:
        change_matching(engine, "cancel", wanted, as_json=as_json, yes=yes, force=force)
        return
    refuse_both(wanted)

    def cancel_one(job: Job) -> Job:
        running = job.status is JobStatus.RUNNING
        flag = "cancels_running" if running else "cancels_waiting"
        if not getattr(engine.flags, flag):
            raise engine.unsupported(flag)
        job.cancel(force=force)
        if force and job.status is JobStatus.RUNNING:
            is_alive = not engine.flags.own_worker or engine.workers()
            with contextlib.suppress(WaitTimeout):
                job.wait(FORCED_WITHIN if is_alive else 0.0)
        return job

    _for_each(engine, job_ids, as_json, cancel_one, partial(_after_cancel, force=force))


def details(job: Job, now: float, *, bars: bool = False) -> str:
    """The state of a job in a few words. now: unix seconds. bars: draw its progress."""
    if job.cancel_requested and job.status is JobStatus.RUNNING:
        return "asked to stop"
    if job.error is not None:
        text = f"{job.error.type}: {job.error.message}"
        return f"after {text}" if job.status is JobStatus.READY else text
    if job.status is JobStatus.RUNNING:
        return _progress(job, bars=bars) or ""
    if job.status is JobStatus.READY:
        return _why_waiting(job, now)
    if job.status is JobStatus.SUCCESSFUL and job.started_at and job.finished_at:
        return f"took {duration((job.finished_at - job.started_at).total_seconds())}"
    return ""


# --- steps -------------------------------------------------------------------------------------


def _job(record: JobRecord) -> Job:
    return current_state().job(record)


def _for_each(
    engine: Engine,
    job_ids: Sequence[str],
    as_json: bool,
    change: Callable[[Job], Job],
    describe: Callable[[Job], str],
) -> None:
    """Change all that can be changed; errors are printed at the end, with exit code 1."""
    changed, errors = [], []
    for job_id in dict.fromkeys(job_ids):
        try:
            changed.append(change(_job(find_job(engine, job_id))))
        except OffloadError as error:
            errors.append(printable(str(error)))
        else:
            if not as_json:
                click.echo(describe(changed[-1]))
    if as_json:
        echo_json([job_json(job) for job in changed])
    for message in errors:
        click.echo(f"Error: {message}", err=True)
    if errors:
        raise SystemExit(1)


def _after_retry(job: Job) -> str:
    again = "is queued again" if job.status is JobStatus.READY else f"ran again: {job.status}"
    return f"job {job.id} {again}"


def _after_cancel(job: Job, *, force: bool) -> str:
    if job.status is not JobStatus.RUNNING:
        return f"job {job.id} is {job.status}"
    if force:
        return (
            f"job {job.id} is still RUNNING: no worker has ended its process yet;"
            " `flask offload check` says which workers are alive"
        )
    return f"job {job.id} is running and has been asked to stop"


def _progress(job: Job, *, bars: bool = False) -> str | None:
    progress = job.progress
    if progress is None:
        return None
    if bars and progress.fraction is not None:
        percent = f"{progress.fraction * 100:3.0f}%"
        return f"{bar(progress.fraction)} {percent} {progress.message or ''}".rstrip()
    total = "" if progress.total is None else f"/{progress.total:g}"
    percent = "" if progress.fraction is None else f" ({progress.fraction * 100:.0f}%)"
    return f"{progress.done:g}{total}{percent} {progress.message or ''}".rstrip()


def _why_waiting(job: Job, now: float) -> str:
    if job.waiting_for == "its time" and job.run_after is not None:
        return f"due {ago(now - job.run_after.timestamp())}"
    return f"waits for its {job.waiting_for}" if job.waiting_for else ""


def _described(job: Job, call: str, now: float) -> Iterator[str]:
    owner = f", owner {job.owner}" if job.owner else ""
    waits = _why_waiting(job, now) if job.status is JobStatus.READY else ""
    stopping = job.status is JobStatus.RUNNING and job.cancel_requested
    lines = {
        "job": job.id,
        "task": job.task + call,
        "queue": f"{job.queue_name}, priority {job.priority}, from {job.origin}{owner}",
        "status": f"{job.status}{', ' + waits if waits else ''}"
        f"{', asked to stop' if stopping else ''}",
        "progress": _progress(job),
        "enqueued": when(job.enqueued_at, now),
        "run after": when(job.run_after, now),
        "started": when(job.started_at, now),
        "finished": when(job.finished_at, now),
        "returned": _returned(job),
    }
    for name, text in lines.items():
        if text is not None:
            yield f"{name:<10}{printable(text)}"
    for attempt in job.attempts:
        yield from _attempt(attempt, now)
    last = job.attempts[-1].error if job.attempts else None
    if job.error is not None and job.error != last:
        yield from ("", *_error(job.error))


def _call(state: AppState, name: str, stored: str) -> str:
    """The stored arguments, written as a call, without what the dashboard hides too."""
    masking = Masking(state.config.dashboard_mask)
    shown = masking.arguments(stored, state.registry.tasks.get(name))
    if shown is None:
        return "(…)"
    return fit(f"({', '.join(f'{name}={value}' for name, value in shown)})", ARGUMENTS_SHOWN)


def _returned(job: Job) -> str | None:
    value = job_json(job)["return_value"]
    return None if value is None else fit(json.dumps(value), ARGUMENTS_SHOWN)


def _attempt(attempt: Attempt, now: float) -> Iterator[str]:
    took = ""
    if attempt.started_at and attempt.finished_at:
        took = f", {duration((attempt.finished_at - attempt.started_at).total_seconds())}"
    outcome = attempt.outcome or "running"
    yield ""
    yield printable(
        f"attempt {attempt.number}: {outcome}, {when(attempt.started_at, now)}{took},"
        f" worker {attempt.worker}"
    )
    if attempt.error is not None:
        yield from _error(attempt.error)


def _error(error: Error) -> Iterator[str]:
    yield printable(f"  {error.type}: {error.message}")
    for line in (error.traceback or "").splitlines():
        yield printable(f"    {line}")
