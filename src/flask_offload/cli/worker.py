"""`flask offload worker`: run jobs."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from flask.cli import ScriptInfo, pass_script_info
from flask.helpers import get_debug_flag

from ..engines.base import Engine, WorkOptions
from ..errors import OffloadError, OptionError
from ..feature_checks import require_flag
from ..jobs import log
from ..role import become_worker
from ..state import state_of
from ..tasks.options import check_queue_name
from ..worker.supervisor import EXIT_FAILED, EXIT_OTHER_ENGINE, Supervisor, WorkerOptions

NICENESS = 5
"""Added to the nice value of a kept worker, so that web processes have precedence."""


def _queue_names(
    ctx: click.Context, param: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    try:
        for name in names:
            check_queue_name(name)
    except OptionError as error:
        raise click.BadParameter(f"{error} Repeat --queue for each one.") from None
    return names


@click.command()
@click.option("--processes", type=click.IntRange(1, 256), help="Child processes that run jobs.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of each process.")
@click.option(
    "--async-concurrency",
    type=click.IntRange(1, 10_000),
    help="Async jobs at once in each process.",
)
@click.option(
    *("--queue", "queues"),
    multiple=True,
    metavar="NAME",
    callback=_queue_names,
    help="Only this queue; repeatable.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How long to wait for running jobs when the worker stops.",
)
@click.option("--burst", is_flag=True, help="Exit when no job is left to run.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The log level, unless the app configures logging. Default: info.",
)
@click.option("--kept-by", type=int, hidden=True)
@click.option("--hand-over", type=float, default=0.0, hidden=True)
@click.option("--introduction", default="", hidden=True)
@click.option("--database", hidden=True)
@click.option("--explain/--no-explain", default=True, hidden=True)
@click.option("--in-this-process", is_flag=True, hidden=True)
@pass_script_info
def worker(
    info: ScriptInfo,
    /,
    log_level: str | None,
    queues: tuple[str, ...],
    in_this_process: bool,
    **given: Any,
) -> None:
    """Run jobs until SIGTERM or ^C. Then running jobs are finished, and the others stay in the
    queue. A second signal stops at once; running jobs are put back.

    The app is imported in the child processes only. The defaults of --processes, --threads and
    --async-concurrency are the app's OFFLOAD_WORKER_PROCESSES, OFFLOAD_WORKER_THREADS and
    OFFLOAD_ASYNC_CONCURRENCY.
    """
    if in_this_process:
        sys.exit(_work_here(info, log_level or "info", frozenset(queues) or None, given))
    kept = given["kept_by"] is not None
    in_terminal = kept and log_level is None and get_debug_flag()
    chosen = log_level or ("warning" if kept else "info")
    log.set_up(chosen, in_terminal=in_terminal, yields=kept and log_level is None)
    if kept:
        os.nice(NICENESS)
    options = WorkerOptions(queues=frozenset(queues) or None, **given)
    code = Supervisor(info.load_app, options).run()
    if code == EXIT_OTHER_ENGINE:
        # the engine's worker has to start without our signal handlers
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "--in-this-process"])
    sys.exit(code)


def _work_here(
    info: ScriptInfo, log_level: str, queues: frozenset[str] | None, given: dict[str, Any]
) -> int:
    """Run the worker of an engine that brings its own."""
    log.logger.setLevel(log_level.upper())
    become_worker()
    app = info.load_app()
    engine: Engine = state_of(app).engine
    names = ("processes", "threads", "drain_timeout", "burst")
    options = WorkOptions(
        queues=queues, log_level=log_level, **{name: given[name] for name in names}
    )
    try:
        if given["async_concurrency"] is not None:
            require_flag(engine, "own_worker", "--async-concurrency")
        code = engine.work(options)
    except OffloadError as error:
        click.echo(f"The worker can't start: {error}", err=True)
        code = EXIT_FAILED
    return code
