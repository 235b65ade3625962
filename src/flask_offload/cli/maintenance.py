"""`flask offload prune`: delete finished jobs, and give their space back to the disk."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import click

from ..engines.sqlite import SqliteEngine
from ..engines.sqlite.maintenance import BATCH, give_space_back, known_files, prune_finished
from ..engines.sqlite.maintenance import prune as prune_expired
from ..errors import UnsupportedByEngine
from ..payload.spool import Spool, show_bytes
from .common import (
    app_command,
    echo_json,
    json_option,
    offload_of_app,
    own_engine,
)

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
STRAY = 3600.0
"""Seconds after which a spooled file that no job knows is nobody's."""


class Age(click.ParamType[float]):
    """A length of time such as 90s, 30min, 12h, 7d or 2w; in seconds."""

    name = "age"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]+)", str(value).strip().lower())
        if isinstance(value, float):
            return value
        if found is None or found[2] not in UNITS:
            self.fail(f"{value!r} is not an age: write a number and {', '.join(UNITS)}", param, ctx)
        return float(found[1]) * UNITS[found[2]]


@app_command("prune")
@click.option(
    "--before", type=Age(), metavar="AGE", help="Jobs that finished longer ago, such as 7d or 12h."
)
@click.option("--all-finished", is_flag=True, help="Every finished job.")
@json_option
def prune(before: float | None, all_finished: bool, as_json: bool) -> None:
    """Delete finished jobs, and give their space back to the disk.

    Without an option: those whose retention time is over (OFFLOAD_KEEP_…), as a worker does by
    itself. Works in small batches, so that the app goes on meanwhile. Waiting and running jobs are
    never touched.
    """
    if before is not None and all_finished:
        raise click.UsageError("--before and --all-finished exclude each other.")
    state = offload_of_app()[1]
    if state.engine.flags.retention and not state.engine.flags.own_worker:
        raise UnsupportedByEngine(
            f"workers of the {state.engine.name} engine delete by themselves what is over"
            " (OFFLOAD_KEEP_…): there is nothing to be done by hand"
        )
    engine = own_engine()
    now = engine.clock()
    size = _size(engine.database.path)
    if all_finished or before is not None:
        jobs, files = _prune_finished(engine, now - (before or 0.0), state.spool)
    else:
        jobs, files = _prune_expired(engine, state.config.keep_count, state.spool)
    if state.spool is not None:
        files += state.spool.sweep(known_files(engine), STRAY)
    _politely(lambda: give_space_back(engine) > 0)
    engine.database.checkpoint()
    left = _size(engine.database.path)
    if as_json:
        echo_json({"jobs": jobs, "files": files, "bytes_before": size, "bytes_after": left})
        return
    spooled = f" and {files} uploaded files" if files else ""
    click.echo(
        f"Deleted {jobs} jobs{spooled}. The database takes {show_bytes(left)} now, before it took"
        f" {show_bytes(size)}."
    )


# --- steps -------------------------------------------------------------------------------------


def _prune_expired(engine: SqliteEngine, keep_count: int, spool: Spool | None) -> tuple[int, int]:
    jobs = files = 0

    def batch() -> bool:
        nonlocal jobs, files
        pruned = prune_expired(engine, keep_count=keep_count)
        jobs, files = jobs + pruned.jobs, files + len(pruned.files)
        if spool is not None:
            spool.remove(pruned.files)
        return pruned.has_more

    _politely(batch)
    return jobs, files


def _prune_finished(engine: SqliteEngine, moment: float, spool: Spool | None) -> tuple[int, int]:
    jobs = files = last = 0

    def batch() -> bool:
        nonlocal jobs, files, last
        gone, names, last = prune_finished(engine, moment, last)
        jobs, files = jobs + gone, files + len(names)
        if spool is not None:
            spool.remove(names)
        return gone == BATCH

    _politely(batch)
    return jobs, files


def _politely(step: Callable[[], bool]) -> None:
    """Repeat a step while it says that there is more, and rest as long as each has taken: half of
    the time the database is free for those who enqueue."""
    while True:
        began = time.perf_counter()
        if not step():
            return
        time.sleep(min(time.perf_counter() - began, 1.0))


def _size(path: Path) -> int:
    """Bytes of the database and of its write-ahead log."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
